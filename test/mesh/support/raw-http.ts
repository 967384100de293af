import { once } from "node:events";
import * as http from "node:http";
import * as http2 from "node:http2";
import * as net from "node:net";
import type { TestContext } from "node:test";

/** A complete HTTP response. */
export interface RawResponse {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly trailers: http.IncomingHttpHeaders;
  readonly body: Buffer;
  readonly text: string;
  /** HTTP/2: whether the first HEADERS frame ended the stream. */
  readonly headersOnly?: boolean;
}

/** A request to send as it is. */
export interface RawRequest {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array;
}

/** Sends an HTTP/1.1 request on a connection of its own. */
export async function http1(url: string, path: string, request: RawRequest = {}): Promise<RawResponse> {
  const outgoing = http.request(new URL(path, url), {
    method: request.method ?? "POST",
    headers: request.headers ?? {},
    agent: false,
  });
  // The server may answer and close before it has read everything.
  outgoing.on("error", () => {});
  outgoing.end(request.body ?? "");
  const [incoming] = await once(outgoing, "response");
  if (!(incoming instanceof http.IncomingMessage)) {
    throw new Error("no response");
  }
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) {
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  return {
    status: incoming.statusCode ?? 0,
    headers: incoming.headers,
    trailers: incoming.trailers,
    body,
    text: body.toString(),
  };
}

/** Sends a POST with a JSON body, as `curl -H content-type:application/json -d …` does. */
export function postJson(
  url: string,
  path: string,
  body: string,
  headers: Record<string, string> = {},
): Promise<RawResponse> {
  return http1(url, path, { body, headers: { "content-type": "application/json", ...headers } });
}

/** Opens an HTTP/2 connection with prior knowledge, until the test ends. */
export function connectHttp2(t: Pick<TestContext, "after">, url: string): http2.ClientHttp2Session {
  // Room for bodies that wait for a window which never opens.
  const session = http2.connect(url, { maxSessionMemory: 256 });
  session.on("error", () => {});
  t.after(() => session.destroy());
  return session;
}

/** Sends an HTTP/2 request and reads the complete response. */
export async function http2Request(
  session: http2.ClientHttp2Session,
  path: string,
  request: RawRequest = {},
): Promise<RawResponse> {
  const stream = session.request({ ":method": request.method ?? "POST", ":path": path, ...request.headers });
  // A GET has ended with its headers.
  if (!stream.writableEnded) {
    stream.end(request.body ?? "");
  }
  return readHttp2(stream);
}

/** Reads the response of an HTTP/2 stream. */
export async function readHttp2(stream: http2.ClientHttp2Stream): Promise<RawResponse> {
  let headers: http2.IncomingHttpHeaders & http2.IncomingHttpStatusHeader = {};
  let trailers: http2.IncomingHttpHeaders = {};
  let headersOnly = false;
  stream.on("response", (fields, flags) => {
    headers = fields;
    headersOnly = (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0;
  });
  stream.on("trailers", (fields) => {
    trailers = fields;
  });
  const chunks: Buffer[] = [];
  for await (const chunk of stream) {
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks);
  return { status: headers[":status"] ?? 0, headers, trailers, headersOnly, body, text: body.toString() };
}

/** Opens a TCP connection, until the test ends. */
export async function connectTcp(t: Pick<TestContext, "after">, port: number): Promise<net.Socket> {
  const socket = net.connect(port, "127.0.0.1");
  socket.on("error", () => {});
  t.after(() => socket.destroy());
  await once(socket, "connect");
  return socket;
}

/** Reads what a socket receives until the other side closes it. */
export async function readToEnd(socket: net.Socket): Promise<string> {
  const chunks: Buffer[] = [];
  socket.on("data", (chunk) => chunks.push(chunk));
  if (!socket.closed) {
    await once(socket, "close");
  }
  return Buffer.concat(chunks).toString("latin1");
}

/** Puts a message behind the five-byte prefix of gRPC. */
export function envelope(message: Uint8Array | string, flags = 0): Buffer {
  const data = Buffer.from(message);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt8(flags, 0);
  prefix.writeUInt32BE(data.byteLength, 1);
  return Buffer.concat([prefix, data]);
}
