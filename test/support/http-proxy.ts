import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import type { TestContext } from "node:test";

/** A proxy on loopback, as companies have them. */
export interface HttpProxy {
  readonly url: string;
  /** What it was asked for so far: `CONNECT host:port`, or method and URL of a request that it passed on. */
  readonly proxied: readonly string[];
}

/**
 * Starts a proxy that runs until the test is done.
 *
 * @param ports loopback port of each `host:port` that it knows; others it answers with 502.
 */
export async function startHttpProxy(t: TestContext, ports: ReadonlyMap<string, number>): Promise<HttpProxy> {
  const proxied: string[] = [];
  const sockets = new Set<Socket>();
  const server = createServer((incoming, response) => {
    const { method = "", url = "", headers } = incoming;
    proxied.push(`${method} ${url}`);
    const target = new URL(url);
    const port = ports.get(`${target.hostname}:${target.port || 80}`);
    if (port === undefined) {
      response.writeHead(502).end();
      return;
    }
    const passed = { host: "127.0.0.1", port, method, path: `${target.pathname}${target.search}`, headers };
    const outgoing = httpRequest(passed, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    outgoing.on("error", () => response.destroy());
    incoming.pipe(outgoing);
  });
  server.on("connect", ({ url = "" }, socket: Socket, head: Buffer) => {
    proxied.push(`CONNECT ${url}`);
    const port = ports.get(url);
    if (port === undefined) {
      socket.end("HTTP/1.1 502 Bad Gateway\r\n\r\n");
      return;
    }
    const outgoing = connect(port, "127.0.0.1", () => {
      socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
      outgoing.write(head);
      outgoing.pipe(socket).pipe(outgoing);
    });
    sockets.add(outgoing);
    outgoing.on("error", () => socket.destroy());
    socket.on("error", () => outgoing.destroy());
  });
  server.on("connection", (socket) => sockets.add(socket));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    for (const socket of sockets) {
      socket.destroy();
    }
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, proxied };
}
