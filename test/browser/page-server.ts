import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import type { ConnectRouter } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { createPageRoute } from "../../src/studio/page-route.js";

/** A server of the page and of services that a test makes up. */
export interface PageServer {
  readonly url: string;
  /** Ends it with all of its connections, as a crash does. */
  stop(): Promise<void>;
}

/** Serves the page that was built, as a pipeline does. */
export async function startPageServer(routes: (router: ConnectRouter) => void, port = 0): Promise<PageServer> {
  const pageRoute = await createPageRoute(fileURLToPath(new URL("../../dist/page", import.meta.url)));
  const serveServices = connectNodeAdapter({ routes });
  const server = createServer((request, response) => pageRoute(request, response) || serveServices(request, response));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" ? address?.port : address}`,
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
