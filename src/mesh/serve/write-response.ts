import type { Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { parseContentType } from "@connectrpc/connect/protocol-grpc";
import { canceled } from "../errors/errors.js";
import type { NodeResponse } from "../port/node-handler.js";
import { isClosed, nodeHeaders } from "./node-request.js";
import type { Paced } from "./paced.js";

/**
 * Writes the response of a Connect handler, with back-pressure, and resolves when all is handed over or the client has disconnected. Then
 * the handler's stream is ended with CANCELLED, also where it only waits for a slow reader: connect-node's own writer would wait for
 * ever and leave the handler's `finally` undone.
 *
 * Headers are sent with the first message, because until then a handler may set some. A gRPC call over HTTP/2 that fails before it is
 * answered Trailers-Only: gRPC clients retry only such calls, because HEADERS without END_STREAM commit the call (gRFC A6).
 *
 * @param paced runs what ends a stream whose client has disconnected. @default at once
 * @param signal the call's. Its reason ends a stream whose client has disconnected.
 */
export async function writeResponse(
  source: UniversalServerResponse,
  response: NodeResponse,
  paced: Paced = (callback) => callback(),
  signal?: AbortSignal,
): Promise<void> {
  const header = new Headers(source.header);
  if (/^application\/(connect\+|grpc-web)/.test(header.get("content-type") ?? "")) {
    // Else nginx hands a stream on in one piece, at its end.
    header.set("x-accel-buffering", "no");
  }
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  const chunks = source.body?.[Symbol.asyncIterator]();
  let chunk = await chunks?.next();
  if (source.trailer !== undefined && chunk?.done !== false && isFailedGrpc(source.trailer, header, response)) {
    return respondFailure(header, source.trailer, response);
  }
  if (!isClosed(response)) {
    writeHead(response, source.status, header);
  }
  for (; chunks !== undefined && chunk?.done === false; chunk = await chunks.next()) {
    if (isClosed(response)) {
      await new Promise<void>(paced);
      return closeAbandoned(chunks, signal?.reason ?? canceled());
    }
    await writePieces(chunk.value, response, closed);
  }
  if (isClosed(response)) {
    return;
  }
  if (source.trailer !== undefined) {
    response.addTrailers(trailerFields(source.trailer));
  }
  response.end();
}

/** A message is written in pieces of so many bytes, so that a slow client can be told from one that does not read at all. */
export const pieceBytes = 65_536;

/** Writes bytes with back-pressure. Stops where the client disconnects. */
export async function writePieces(bytes: Uint8Array, response: NodeResponse, closed: Promise<void>): Promise<void> {
  for (let from = 0; from < bytes.byteLength && !isClosed(response); from += pieceBytes) {
    const piece = bytes.subarray(from, from + pieceBytes);
    // The union of two overloaded methods cannot be called as one.
    const isFlushed = "stream" in response ? response.write(piece) : response.write(piece);
    if (!isFlushed) {
      await Promise.race([drained(response), closed]);
    }
  }
}

/** Headers that say nothing of the call itself, and may stand among the trailers of a failed one. */
const incidental: ReadonlySet<string> = new Set([
  "content-type",
  "grpc-encoding",
  "grpc-accept-encoding",
  "traceresponse",
]);

/**
 * Answers a failed gRPC call Trailers-Only: status and headers in one HEADERS frame that ends the stream. Headers that the handler has
 * set have a frame of their own, as grpc-go sends them: in one frame, clients could not tell them from trailers.
 */
export function respondFailure(header: Headers, trailer: Headers, response: Http2ServerResponse): void {
  const { stream } = response;
  if (stream.destroyed || stream.closed) {
    return;
  }
  const status = { ":status": 200 };
  if ([...header.keys()].every((name) => incidental.has(name))) {
    stream.respond({ ...status, ...nodeHeaders(header), ...trailerFields(trailer) }, { endStream: true });
    return;
  }
  stream.respond({ ...status, ...nodeHeaders(header) }, { waitForTrailers: true });
  response.addTrailers(trailerFields(trailer));
  stream.end();
}

/**
 * A gRPC trailer as Node takes it. Connect percent-encodes all of `grpc-message` that a URI component must not hold; gRPC asks for it only
 * outside of printable ASCII and for `%`, and grpc-js decodes no more than that, so its callers would read `ran out%3A`.
 *
 * @see https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#responses
 */
export function trailerFields(trailer: Headers): Record<string, string | string[]> {
  const message = trailer.get("grpc-message");
  return message === null
    ? nodeHeaders(trailer)
    : {
        ...nodeHeaders(trailer),
        "grpc-message": decodeURIComponent(message).replace(/[^\x20-\x24\x26-\x7e]/gu, encodeURIComponent),
      };
}

/** Whether the response is that of a failed gRPC call, on HTTP/2. */
function isFailedGrpc(trailer: Headers, header: Headers, response: NodeResponse): response is Http2ServerResponse {
  return (
    "stream" in response &&
    trailer.get("grpc-status") !== "0" &&
    parseContentType(header.get("content-type")) !== undefined
  );
}

function writeHead(response: NodeResponse, status: number, header: Headers): void {
  if ("stream" in response) {
    response.writeHead(status, nodeHeaders(header));
  } else {
    response.writeHead(status, nodeHeaders(header));
  }
}

function drained(response: NodeResponse): Promise<void> {
  return new Promise((resolve) => response.once("drain", resolve));
}

/** Ends a stream of messages that nobody reads any more. */
async function closeAbandoned(chunks: AsyncIterator<Uint8Array>, reason: unknown): Promise<void> {
  try {
    await chunks.throw?.(reason);
  } catch {
    // It ends with the error that it was given.
  }
}
