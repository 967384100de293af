import * as http from "node:http";
import type { Socket } from "node:net";
import { createHttp1Pipelines } from "./http1-pipelines.js";
import type { ListenLimits } from "./listen-limits.js";
import { type NodeHandler, respondPlain } from "./node-handler.js";

/** One protocol's half of a port. */
export interface ProtocolSide {
  /** Takes over a connection whose bytes are all still to be read. */
  accept(socket: Socket): void;
  /** Closes idle connections, now and as they become idle; running calls go on. */
  drain(): void;
  /** Frees timers once all connections are gone. */
  close(): void;
}

/** Serves HTTP/1.1 on sockets that another server accepted. */
export function createHttp1Side(handler: NodeHandler, limits: Required<ListenLimits>): ProtocolSide {
  const pipelines = createHttp1Pipelines();
  let draining = false;

  const server = http.createServer(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      // How often the two request timeouts are looked at; Node's 30 s would make a short one late.
      connectionsCheckingInterval: Math.min(5_000, Math.max(100, limits.headersTimeoutMs / 4)),
    },
    (request, response) => {
      const unanswered = pipelines.add(request, response);
      if (draining) {
        response.setHeader("connection", "close");
      }
      response.once("close", () => {
        // A response that had sent its headers before the drain could not say `connection: close`, so its connection is idle now.
        if (draining) {
          setImmediate(() => server.closeIdleConnections());
        }
      });
      if (unanswered > limits.maxPipelinedRequests) {
        respondPlain(response, 503, "too many unanswered requests on this connection", { connection: "close" });
        return;
      }
      handler(request, response);
    },
  );
  // Node calls this for a connection on which nothing moves, and leaves it open. One that waits for a handler is to stay; one whose
  // client does not read, or that has no request, is not.
  server.setTimeout(limits.writeTimeoutMs, (socket) => {
    if (!pipelines.has(socket) || socket.writableLength > 0) {
      socket.destroy();
    }
  });
  // This server never listens itself, but it starts to look at its timeouts with this event.
  server.emit("listening");

  return {
    accept(socket) {
      server.emit("connection", socket);
      socket.resume();
    },
    drain() {
      draining = true;
      for (const response of pipelines.responses()) {
        if (!response.headersSent) {
          response.setHeader("connection", "close");
        }
      }
      server.closeIdleConnections();
    },
    close() {
      server.close();
    },
  };
}
