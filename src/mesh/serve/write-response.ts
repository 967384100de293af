import type { Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { parseContentType } from "@connectrpc/connect/protocol-grpc";
import { canceled } from "../errors/errors.js";
import type { NodeResponse } from "../port/node-handler.js";
import { isClosed, nodeHeaders } from "./node-request.js";
import type { Paced } from "./paced.js";

/**
 * Write the response of a Connect handler with back-pressure. Resolves when it is written or the client has disconnected.
 *
 * After a disconnect, the handler's stream ends with CANCELLED, even while it waits for a slow reader. connect-node's own writer would wait
 * for ever, and the handler's `finally` would not run.
 *
 * Headers are sent with the first message, because handlers may set some until then. A gRPC call over HTTP/2 that fails before its first
 * message gets a Trailers-Only response: HEADERS without END_STREAM commit the call, so gRPC clients would not retry it (gRFC A6).
 *
 * @param paced schedules the cleanup after a disconnect. @default at once
 * @param signal of the call. Its reason ends the handler's stream after a disconnect.
 */
export async function writeResponse(
  source: UniversalServerResponse,
  response: NodeResponse,
  paced: Paced = (callback) => callback(),
  signal?: AbortSignal,
): Promise<void> {
  const header = new Headers(source.header);
  if (/^application\/(connect\+|grpc-web)/.test(header.get("content-type") ?? "")) {
    // Otherwise nginx buffers the stream until its end.
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
      return closeUnread(chunks, signal?.reason ?? canceled());
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

/** Size of a written piece, in bytes. Pieces distinguish a slow client from one that does not read at all. */
export const pieceBytes = 65_536;

/** Write bytes with back-pressure. Stops when the client disconnects. */
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

/** Protocol headers that may be merged with the trailers of a failed call. */
const incidental: ReadonlySet<string> = new Set([
  "content-type",
  "grpc-encoding",
  "grpc-accept-encoding",
  "traceresponse",
]);

/**
 * Send a Trailers-Only response: status and headers in one HEADERS frame that ends the stream. Headers set by the handler get a separate
 * frame, as in grpc-go, because clients could not distinguish them from trailers.
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
 * Convert gRPC trailers to an object for Node. Connect percent-encodes `grpc-message` like a URI component; gRPC requires it only for `%` and
 * outside printable ASCII, and grpc-js decodes only these, so its callers would read `exceeded%3A`.
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

/** End a message stream whose client has disconnected. */
async function closeUnread(chunks: AsyncIterator<Uint8Array>, reason: unknown): Promise<void> {
  try {
    await chunks.throw?.(reason);
  } catch {
    // The stream rethrows the reason.
  }
}
