import type { Http2ServerResponse, OutgoingHttpHeaders } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { parseContentType } from "@connectrpc/connect/protocol-grpc";
import { universalResponseToNodeResponse } from "@connectrpc/connect-node";
import { respellGrpcMessage } from "./grpc-message.js";
import type { NodeResponse } from "./node-handler.js";

/**
 * Writes the response of a Connect handler. A gRPC call that failed before its first message is answered "Trailers-Only": status and
 * headers in one HEADERS frame that ends the stream. gRPC clients retry only such calls, because HEADERS without END_STREAM commit the
 * call (gRFC A6), and Connect's own adapter always sends those.
 *
 * Rejects if the connection breaks while writing.
 */
export async function writeResponse(source: UniversalServerResponse, response: NodeResponse): Promise<void> {
  if (!("stream" in response) || source.body === undefined || source.body === null || source.trailer === undefined) {
    return universalResponseToNodeResponse(source, response);
  }
  const header = new Headers(source.header);
  if (parseContentType(header.get("content-type")) === undefined) {
    return universalResponseToNodeResponse(source, response);
  }
  const chunks = source.body[Symbol.asyncIterator]();
  const first = await chunks.next();
  if (first.done === true && source.trailer.get("grpc-status") !== "0") {
    respellGrpcMessage(source.trailer);
    return respondTrailersOnly([header, source.trailer], response);
  }
  return universalResponseToNodeResponse({ ...source, body: resumed(first, chunks, source.trailer) }, response);
}

function respondTrailersOnly(parts: readonly Headers[], response: Http2ServerResponse): void {
  if (response.stream.destroyed || response.stream.closed) return;
  const fields: OutgoingHttpHeaders = { ":status": 200 };
  for (const headers of parts) {
    headers.forEach((value, name) => {
      fields[name] = value;
    });
  }
  response.stream.respond(fields, { endStream: true });
}

/** The rest of an iteration whose first result was taken already. At its end the trailer is complete. */
async function* resumed<T>(first: IteratorResult<T>, rest: AsyncIterator<T>, trailer: Headers): AsyncGenerator<T> {
  try {
    for (let result = first; result.done !== true; result = await rest.next()) yield result.value;
    respellGrpcMessage(trailer);
  } finally {
    await rest.return?.();
  }
}
