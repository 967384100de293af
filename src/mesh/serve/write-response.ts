import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { canceled } from "../errors/errors.js";
import type { NodeResponse } from "../port/node-handler.js";
import { respellGrpcMessage } from "./grpc-message.js";
import { nodeHeaders } from "./node-headers.js";
import { isTrailersOnly, respondTrailersOnly } from "./trailers-only.js";

/**
 * Writes the response of a Connect handler, with back-pressure, and resolves when all is handed over or the client has left. When it
 * leaves, the handler's stream is ended with CANCELED, also where the stream waits for nothing but a slow reader: Connect's own writer
 * would wait for ever and leave the handler's `finally` undone.
 *
 * Headers go out with the first message, because until then a handler may set some.
 */
export async function writeResponse(source: UniversalServerResponse, response: NodeResponse): Promise<void> {
  const header = new Headers(source.header);
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  const chunks = source.body?.[Symbol.asyncIterator]();
  let chunk = await chunks?.next();
  if (source.trailer !== undefined && isTrailersOnly(source, response, chunk?.done === false)) {
    respellGrpcMessage(source.trailer);
    return respondTrailersOnly(header, source.trailer, response);
  }
  if (!isClosed(response)) {
    writeHead(response, source.status, header);
  }
  for (; chunks !== undefined && chunk?.done === false; chunk = await chunks.next()) {
    if (isClosed(response)) {
      return abandon(chunks);
    }
    for (let from = 0; from < chunk.value.byteLength && !isClosed(response); from += pieceBytes) {
      const piece = chunk.value.subarray(from, from + pieceBytes);
      // The union of two overloaded methods cannot be called as one.
      const isFlushed = "stream" in response ? response.write(piece) : response.write(piece);
      if (!isFlushed) {
        await Promise.race([drained(response), closed]);
      }
    }
  }
  if (isClosed(response)) {
    return;
  }
  if (source.trailer !== undefined) {
    respellGrpcMessage(source.trailer);
    response.addTrailers(nodeHeaders(source.trailer));
  }
  response.end();
}

/** A message is written in pieces of so many bytes, so that a client that reads slowly can be told from one that does not read. */
const pieceBytes = 65_536;

function writeHead(response: NodeResponse, status: number, header: Headers): void {
  if ("stream" in response) {
    response.writeHead(status, nodeHeaders(header));
  } else {
    response.writeHead(status, nodeHeaders(header));
  }
}

function isClosed(response: NodeResponse): boolean {
  return "stream" in response ? response.stream.destroyed || response.stream.closed : response.destroyed;
}

function drained(response: NodeResponse): Promise<void> {
  return new Promise((resolve) => response.once("drain", resolve));
}

/** Ends a stream of messages that nobody reads any more. */
async function abandon(chunks: AsyncIterator<Uint8Array>): Promise<void> {
  try {
    await chunks.throw?.(canceled());
  } catch {
    // It ends with the error that it was given.
  }
}
