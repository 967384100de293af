import type { IncomingMessage, ServerResponse } from "node:http";
import * as http from "node:http";
import type { Socket } from "node:net";
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

/** The unanswered requests of HTTP/1.1 connections. A client may send several without waiting; they are answered in order. */
export interface Http1Pipelines {
  /** Adds a request's response until it closes. Returns how many are now unanswered on its connection. */
  add(request: IncomingMessage, response: ServerResponse): number;
  /** Whether a connection has unanswered requests. */
  has(socket: Socket): boolean;
  /** All responses that have not closed. */
  responses(): Iterable<ServerResponse>;
}

/**
 * Keeps the responses of each connection, and closes them all when the connection does. Node emits `close` only for the one whose turn
 * it is; the others would never end, and neither would the work behind them.
 */
export function createHttp1Pipelines(): Http1Pipelines {
  const pipelines = new Map<Socket, Set<ServerResponse>>();

  function pipelineOf(socket: Socket): Set<ServerResponse> {
    const known = pipelines.get(socket);
    if (known !== undefined) {
      return known;
    }
    const pipeline = new Set<ServerResponse>();
    pipelines.set(socket, pipeline);
    socket.once("close", () => {
      pipelines.delete(socket);
      for (const response of pipeline) {
        closeQueued(response);
      }
    });
    return pipeline;
  }

  return {
    add({ socket }, response) {
      const pipeline = pipelineOf(socket);
      pipeline.add(response);
      response.once("close", () => pipeline.delete(response));
      return pipeline.size;
    },
    has: (socket) => (pipelines.get(socket)?.size ?? 0) > 0,
    *responses() {
      for (const pipeline of pipelines.values()) {
        yield* pipeline;
      }
    },
  };
}

/** Closes a response that waits for its turn. The one that has the connection is closed by Node. */
function closeQueued(response: ServerResponse): void {
  if (response.socket === null) {
    response.destroy();
    response.emit("close");
  }
}
