import type { IncomingMessage, ServerResponse } from "node:http";
import type { Http2ServerRequest, Http2ServerResponse } from "node:http2";

/** Request of Node's HTTP/1 or HTTP/2 server. */
export type NodeRequest = IncomingMessage | Http2ServerRequest;

/** Response of Node's HTTP/1 or HTTP/2 server. */
export type NodeResponse = ServerResponse | Http2ServerResponse;

/** Handler of requests of both HTTP versions. */
export type NodeHandler = (request: NodeRequest, response: NodeResponse) => void;

/** Send a status and a short plain text as the body: HTTP/2 has no status texts. */
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
