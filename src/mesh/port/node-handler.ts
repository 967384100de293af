import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

/** A request of Node's HTTP/1 or HTTP/2 server. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;

/** A response of Node's HTTP/1 or HTTP/2 server. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

/** Answers requests of both HTTP versions: what {@link listen} serves and what a fallback is. */
export type NodeHandler = (request: NodeRequest, response: NodeResponse) => void;

/** Answers with a status and a short plain text. Status texts are not for HTTP/2, so the body carries the words. */
export function respondPlain(
  response: NodeResponse,
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const body = `${text}\n`;
  const fields = { "content-type": "text/plain; charset=utf-8", "content-length": Buffer.byteLength(body), ...headers };
  if ("stream" in response) {
    response.writeHead(status, fields);
  } else {
    response.writeHead(status, fields);
  }
  response.end(body);
}
