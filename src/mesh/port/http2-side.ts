import * as http2 from "node:http2";
import { constants, type Http2ServerRequest } from "node:http2";
import type { ProtocolSide } from "./http1-side.js";
import { createHttp2Keepalive } from "./http2-keepalive.js";
import type { ListenLimits } from "./listen-limits.js";
import type { NodeHandler } from "./node-handler.js";

/** Memory that one connection may hold, in megabytes: room for several images on their way at once. */
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
      // Until a client has read our SETTINGS, nghttp2 takes header fields of any size up to 64 KiB.
      if (headerBytes(request.rawHeaders) > limits.maxHeaderBytes) {
        request.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
        return;
      }
      // The stream's event and not the response's: a Trailers-Only answer bypasses the latter.
      request.stream.once("finish", () => request.readableEnded || endUnread(request));
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
      // A stream that waits for a slow image is silent too, and not idle.
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

/** Size of header fields as SETTINGS_MAX_HEADER_LIST_SIZE counts it: 32 bytes a field besides name and value (RFC 9113 §6.5.2). */
function headerBytes(rawHeaders: readonly string[]): number {
  return rawHeaders.reduce((sum, text) => sum + text.length + 16, 0);
}

/** First wait for the end of a response to be sent, in milliseconds; each further one is twice as long. */
const firstWaitMs = 1;

/** Longest wait, in milliseconds: a client that does not read its socket holds the end of its response back for as long as it likes. */
const longestWaitMs = 1_000;

/**
 * Resets a stream with NO_ERROR whose response was sent before its request was read to the end, such as a request that is too large: the
 * client may stop sending (RFC 9113 §8.1). Node would keep the stream, and what it has buffered of it, until somebody reads the rest.
 *
 * Call it when the stream's writable side has finished. Node then still has to send the frame with END_STREAM, and nghttp2 sends RST_STREAM
 * before frames that wait. A client that gets the reset first loses the response, so the reset waits until the stream is closed locally.
 * No event reports that.
 */
export function endUnread(request: Http2ServerRequest): void {
  setImmediate(resetOnceSent, request, firstWaitMs);
}

function resetOnceSent(request: Http2ServerRequest, waitMs: number): void {
  const { stream } = request;
  if (request.readableEnded) {
    return;
  }
  if (!stream.closed) {
    if (stream.state.localClose !== 1) {
      // The connection's socket keeps the process running.
      setTimeout(resetOnceSent, waitMs, request, Math.min(2 * waitMs, longestWaitMs)).unref();
      return;
    }
    stream.close(constants.NGHTTP2_NO_ERROR);
  }
  request.resume();
}
