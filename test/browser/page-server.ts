import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { extname } from "node:path";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";

const types: Readonly<Record<string, string>> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".svg": "image/svg+xml",
};
const policy =
  "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob: http: https:; connect-src 'self'";

/** A server of the page and of services that a test makes up. */
export interface PageServer {
  readonly url: string;
  /** Ends it with all of its connections, as a crash does. */
  stop(): Promise<void>;
}

/** Serves the page that was built, under the same policy as the real services do. */
export async function startPageServer(routes: (router: ConnectRouter) => void, port = 0): Promise<PageServer> {
  const server: Server = createServer(
    connectNodeAdapter({
      routes,
      async fallback(request, response) {
        const path = request.url === "/" ? "/index.html" : (request.url ?? "");
        const file = new URL(`../../dist/page${path}`, import.meta.url);
        const body = await readFile(file).catch(() => undefined);
        if (body === undefined) {
          response.writeHead(404);
          response.end();
        } else {
          const contentType = types[extname(file.pathname)] ?? "application/octet-stream";
          response.writeHead(200, { "content-type": contentType, "content-security-policy": policy });
          response.end(body);
        }
      },
    }),
  );
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
