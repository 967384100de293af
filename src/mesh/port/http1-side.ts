import type { IncomingMessage, ServerResponse } from "node:http";
import * as http from "node:http";
import type { Socket } from "node:net";
import { closeLingering } from "./lingering-close.js";
import type { ListenLimits } from "./listen-limits.js";
import { type NodeHandler, respondPlain } from "./node-handler.js";

/** One protocol's half of a port. */
export interface ProtocolSide {
  /** Takes over a connection of which no byte was consumed. */
  accept(socket: Socket): void;
  /** Closes idle connections, now and as they become idle; running calls continue. */
  drain(): void;
  /** Clears timers once all connections are closed. */
  close(): void;
}

/** Serve HTTP/1.1 on sockets that another server accepted. */
export function createHttp1Side(handler: NodeHandler, limits: Required<ListenLimits>): ProtocolSide {
  const pipelines = createHttp1Pipelines();
  const latest = new WeakMap<Socket, IncomingMessage>();
  let draining = false;

  const server = http.createServer(
    {
      maxHeaderSize: limits.maxHeaderBytes,
      headersTimeout: Math.min(limits.headersTimeoutMs, limits.requestTimeoutMs),
      requestTimeout: limits.requestTimeoutMs,
      keepAliveTimeout: limits.keepAliveTimeoutMs,
      // Check interval of the two timeouts; Node's default of 30 s is too coarse for short ones.
      connectionsCheckingInterval: Math.min(5_000, Math.max(100, limits.headersTimeoutMs / 4)),
    },
    (request, response) => {
      const unanswered = pipelines.add(request, response);
      latest.set(request.socket, request);
      if (draining) {
        response.setHeader("connection", "close");
      }
      response.once("close", () => {
        // A response whose headers were sent before the drain had no `connection: close`, so its connection is idle now.
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
  // Called by Node for an inactive connection, which it leaves open. Close it if it has no request or its client does not read; keep it if
  // it waits for a handler.
  server.setTimeout(limits.writeTimeoutMs, (socket) => {
    if (!pipelines.has(socket) || socket.writableLength > 0) {
      socket.destroy();
    }
  });
  // This server never listens itself, but this event starts its timeout checks.
  server.emit("listening");

  return {
    accept(socket) {
      closeLingering(socket, limits, () => latest.get(socket)?.complete === false);
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

/** Unanswered requests of HTTP/1.1 connections. Clients may pipeline; responses are sent in order. */
export interface Http1Pipelines {
  /** Adds a response until it closes. Returns the number of unanswered requests on its connection. */
  add(request: IncomingMessage, response: ServerResponse): number;
  /** Whether a connection has unanswered requests. */
  has(socket: Socket): boolean;
  /** All open responses. */
  responses(): Iterable<ServerResponse>;
}

/**
 * Track the responses of each connection and close them with it. Node emits `close` only for the response being sent; the handlers of the
 * queued ones would never end.
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

/** Close a queued response. Node closes the one being sent. */
function closeQueued(response: ServerResponse): void {
  if (response.socket === null) {
    response.destroy();
    response.emit("close");
  }
}
