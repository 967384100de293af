import * as http2 from "node:http2";
import { constants, type Http2ServerRequest } from "node:http2";
import type { ProtocolSide } from "./http1-side.js";
import { createHttp2Keepalive } from "./http2-keepalive.js";
import type { ListenLimits } from "./listen-limits.js";
import type { NodeHandler } from "./node-handler.js";

/** Memory limit of one connection, in megabytes: enough for several images in flight. */
const maxSessionMemoryMegabytes = 64;

/**
 * Bytes that a client may send before they are read, of one stream and of all streams of a connection together. With HTTP/2's default of
 * 65,535, a request of 12 MB takes several times as long through HAProxy, and 9 s where a round trip takes 50 ms.
 */
export const unreadBytes = 262_144;

/** Serve HTTP/2 on sockets that another server accepted. */
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
      settings: {
        initialWindowSize: unreadBytes,
        maxConcurrentStreams: limits.maxConcurrentStreams,
        maxHeaderListSize: limits.maxHeaderBytes,
      },
    },
    (request, response) => {
      // Until a client has read our SETTINGS, nghttp2 accepts header fields up to 64 KiB.
      if (headerBytes(request.rawHeaders) > limits.maxHeaderBytes) {
        request.stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
        return;
      }
      // The stream's event, not the response's: a Trailers-Only response bypasses the latter.
      request.stream.once("finish", () => request.readableEnded || endUnread(request));
      handler(request, response);
    },
  );
  server.on("session", (session) => {
    sessions.add(session);
    session.setLocalWindowSize(unreadBytes);
    keepalive.watch(session);
    let open = 0;
    session.on("stream", (stream) => {
      open++;
      stream.once("close", () => open--);
    });
    session.setTimeout(limits.idleSessionTimeoutMs);
    session.on("timeout", () => {
      // A connection with a stream that waits for an image is silent but not idle.
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
      // HTTP/2 does not support half-closed connections.
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

/** Size of header fields as in SETTINGS_MAX_HEADER_LIST_SIZE: name, value, and 32 bytes a field (RFC 9113 §6.5.2). */
function headerBytes(rawHeaders: readonly string[]): number {
  return rawHeaders.reduce((sum, text) => sum + text.length + 16, 0);
}

/** First poll interval for the end of a response, in milliseconds; it doubles each time. */
const firstWaitMs = 1;

/** Maximum poll interval, in milliseconds. A client that does not read can delay the end of its response without limit. */
const longestWaitMs = 1_000;

/**
 * Reset a stream with NO_ERROR whose response was sent before the request was read completely, such as one that is too large, so that the
 * client stops sending (RFC 9113 §8.1). Node would otherwise keep the stream and its buffers.
 *
 * Call it when the stream's writable side has finished. Node still has to send END_STREAM then, and nghttp2 sends RST_STREAM before queued
 * frames. A client that gets the reset first loses the response, so the reset waits until the stream is closed locally. There is no event
 * for that, hence the polling.
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
