import { once } from "node:events";
import { createServer, type IncomingMessage, request, type ServerResponse } from "node:http";
import { fileURLToPath } from "node:url";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createPageRoute } from "../../src/studio/page-route.js";

/** A server of the page, and of a pipeline behind it that can be out of reach. */
export interface JobPages {
  readonly url: string;
  /** Paths of the calls that came, such as `ListJobs`. */
  readonly calls: string[];
  /** Number of calls of a method that are open now. */
  open(method: string): number;
  /** Cuts all connections, as a crash does, and rejects new ones until it is called with true. */
  setReachable(reachable: boolean): void;
  stop(): Promise<void>;
}

/** Serves the page and a studio without traces; everything else comes from the pipeline at `target`. */
export async function startJobPages(target: string, hasJobs = true): Promise<JobPages> {
  const pageRoute = await createPageRoute(fileURLToPath(new URL("../../dist/page", import.meta.url)));
  const serveStudio = connectNodeAdapter({
    routes: (router) =>
      router.service(StudioService, {
        getStudio: () => ({
          hasJobs,
          hasTraces: false,
          traceUrlTemplate: "http://127.0.0.1:16686/trace/{traceId}",
        }),
      }),
    fallback: (incoming, outgoing) => forward(incoming as IncomingMessage, outgoing as ServerResponse),
  });
  const calls: string[] = [];
  const running = new Map<ServerResponse, string>();
  let isReachable = true;

  const forward = (incoming: IncomingMessage, outgoing: ServerResponse): void => {
    const method = incoming.url?.split("/").at(-1) ?? "";
    calls.push(method);
    running.set(outgoing, method);
    // The host stays the page's, so that the URLs of images are too.
    const onward = request(new URL(incoming.url ?? "/", target), {
      method: incoming.method,
      headers: incoming.headers,
    });
    onward.on("response", (response) => {
      outgoing.writeHead(response.statusCode ?? 502, response.headers);
      response.pipe(outgoing);
      response.on("error", () => outgoing.destroy());
    });
    onward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => {
      running.delete(outgoing);
      onward.destroy();
    });
    incoming.pipe(onward);
  };

  const server = createServer((incoming, outgoing) => {
    if (!isReachable) {
      outgoing.destroy();
    } else if (!pageRoute(incoming, outgoing)) {
      serveStudio(incoming, outgoing);
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  return {
    url: `http://127.0.0.1:${typeof address === "object" ? address?.port : address}`,
    calls,
    open: (method) => [...running.values()].filter((each) => each === method).length,
    setReachable(reachable) {
      isReachable = reachable;
      if (!reachable) {
        server.closeAllConnections();
      }
    },
    async stop() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
