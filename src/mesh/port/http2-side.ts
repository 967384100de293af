import * as http2 from "node:http2";
import type { ProtocolSide } from "./http1-side.js";
import { createHttp2Keepalive } from "./http2-keepalive.js";
import { endUnread } from "./http2-unread.js";
import type { ListenLimits } from "./listen-limits.js";
import type { NodeHandler } from "./node-handler.js";

/** Memory that one connection may hold, in megabytes: room for several pictures on their way at once. */
const maxSessionMemoryMegabytes = 64;

/** Serves HTTP/2 on sockets that another server accepted. */
export function createHttp2Side(handler: NodeHandler, limits: Required<ListenLimits>): ProtocolSide {
  const sessions = new Set<http2.ServerHttp2Session>();
  const keepalive = createHttp2Keepalive({
    timeMs: limits.keepaliveTimeMs,
    timeoutMs: limits.keepaliveTimeoutMs,
    writeTimeoutMs: limits.writeTimeoutMs,
  });
  let draining = false;

  const server = http2.createServer(
    {
      maxSessionMemory: maxSessionMemoryMegabytes,
      settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    },
    (request, response) => {
      // The stream's event and not the response's: a Trailers-Only answer bypasses the latter.
      request.stream.once("finish", () => endUnread(request));
      handler(request, response);
    },
  );
  server.on("session", (session) => {
    sessions.add(session);
    keepalive.watch(session);
    let open = 0;
    session.on("stream", (stream) => {
      open++;
      stream.once("close", () => open--);
    });
    session.setTimeout(limits.idleSessionTimeoutMs);
    session.on("timeout", () => {
      // A stream that waits for a slow picture is silent too, and not idle.
      if (open === 0) {
        session.close();
      }
    });
    session.once("close", () => sessions.delete(session));
    if (draining) {
      session.close();
    }
  });

  return {
    accept(socket) {
      // HTTP/2 has no use for a connection of which one half is closed.
      socket.allowHalfOpen = false;
      server.emit("connection", socket);
    },
    drain() {
      draining = true;
      for (const session of sessions) {
        session.close();
      }
    },
    close: keepalive.close,
  };
}
