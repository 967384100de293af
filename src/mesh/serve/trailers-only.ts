import type { Http2ServerResponse } from "node:http2";
import type { UniversalServerResponse } from "@connectrpc/connect/protocol";
import { parseContentType } from "@connectrpc/connect/protocol-grpc";
import type { NodeResponse } from "../port/node-handler.js";
import { nodeHeaders } from "./node-headers.js";

/** Whether a failed call may be answered Trailers-Only: gRPC on HTTP/2, and no message came before the failure. */
export function isTrailersOnly(
  source: UniversalServerResponse,
  response: NodeResponse,
  hasMessage: boolean,
): response is Http2ServerResponse {
  if (hasMessage || !("stream" in response) || source.trailer === undefined) {
    return false;
  }
  if (parseContentType(new Headers(source.header).get("content-type")) === undefined) {
    return false;
  }
  return source.trailer.get("grpc-status") !== "0";
}

/**
 * Answers a failed gRPC call "Trailers-Only": status and headers in one HEADERS frame that ends the stream. gRPC clients retry only
 * such calls, because HEADERS without END_STREAM commit the call (gRFC A6), and Connect's own adapter always sends those.
 */
export function respondTrailersOnly(header: Headers, trailer: Headers, response: Http2ServerResponse): void {
  const { stream } = response;
  if (stream.destroyed || stream.closed) {
    return;
  }
  stream.respond({ ":status": 200, ...nodeHeaders(header), ...nodeHeaders(trailer) }, { endStream: true });
}
