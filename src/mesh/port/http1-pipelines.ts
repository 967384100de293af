import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";

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
