import * as http2 from "node:http2";
import type { ProtocolSide } from "./http1-side.js";
import type { ListenLimits } from "./listen-limits.js";
import type { NodeHandler } from "./node-handler.js";

/** Memory that one connection may hold, in megabytes: room for several pictures on their way at once. */
const maxSessionMemoryMegabytes = 64;

/** Serves HTTP/2 on sockets that another server accepted. */
export function createHttp2Side(handler: NodeHandler, limits: Required<ListenLimits>): ProtocolSide {
  const sessions = new Set<http2.ServerHttp2Session>();
  let draining = false;

  const server = http2.createServer(
    {
      maxSessionMemory: maxSessionMemoryMegabytes,
      settings: { maxConcurrentStreams: limits.maxConcurrentStreams, maxHeaderListSize: limits.maxHeaderBytes },
    },
    handler,
  );
  server.on("session", (session) => {
    sessions.add(session);
    let open = 0;
    session.on("stream", (stream) => {
      open++;
      stream.once("close", () => open--);
      stream.once("finish", () => setImmediate(endUnread, stream));
    });
    session.setTimeout(limits.idleSessionTimeoutMs);
    session.on("timeout", () => {
      // A stream that waits for a slow picture is silent too, and not idle.
      if (open === 0) session.close();
    });
    session.once("close", () => sessions.delete(session));
    if (draining) session.close();
  });

  return {
    accept(socket) {
      server.emit("connection", socket);
    },
    drain() {
      draining = true;
      for (const session of sessions) session.close();
    },
    close() {},
  };
}

/**
 * Ends a stream that was answered before its request was all there, such as one that is too large: the client may stop sending
 * (RFC 9113 §8.1). Node would keep the stream until the client ends it, and count it to the last.
 */
function endUnread(stream: http2.ServerHttp2Stream): void {
  if (!stream.closed && !stream.readableEnded) stream.close(http2.constants.NGHTTP2_NO_ERROR);
}
