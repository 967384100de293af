import type { ServerHttp2Session, ServerHttp2Stream } from "node:http2";

/** Options of {@link createHttp2Keepalive}. */
export interface Http2KeepaliveOptions {
  /** A connection that is silent for so long gets a PING, in milliseconds. */
  readonly timeMs: number;
  /** A connection whose PING is not answered within so long is cut, in milliseconds. */
  readonly timeoutMs: number;
  /** A connection that takes nothing of what waits to be sent for so long is cut, in milliseconds. */
  readonly writeTimeoutMs: number;
}

/** Finds HTTP/2 connections that nobody is behind any more. */
export interface Http2Keepalive {
  /** Watches a connection until it closes. */
  watch(session: ServerHttp2Session): void;
  /** Stops watching. */
  close(): void;
}

interface Watched {
  bytesRead: number;
  /** When the unanswered PING was sent, in milliseconds of `performance.now()`; undefined without one. */
  pingSentAt: number | undefined;
  /** The client has sent so many bytes that say nothing but that it is there. */
  pongBytes: number;
  /** What a client that reads changes: the window that it leaves us, and the bytes that it sends. */
  progress: string;
  /** When `progress` last changed, or nothing waited to be sent. */
  progressAt: number;
  readonly streams: Set<ServerHttp2Stream>;
}

/** Size of a PING frame, either way (RFC 9113 §6.7). */
const pingFrameBytes = 17;

/**
 * Pings silent connections, and cuts those that do not answer. A peer that broke the protocol is cut at the next look: nghttp2 has
 * ended that session by itself, Node has stopped reading its socket and tells nobody, so neither the session nor the socket would ever
 * close. It shows in a PING that stays in the queue while the socket could take it.
 */
export function createHttp2Keepalive(options: Http2KeepaliveOptions): Http2Keepalive {
  const sessions = new Map<ServerHttp2Session, Watched>();

  function look(session: ServerHttp2Session, watched: Watched): void {
    const { bytesRead, writableLength } = session.socket;
    if (bytesRead !== watched.bytesRead) {
      watched.bytesRead = bytesRead;
      watched.pingSentAt = undefined;
    } else if (watched.pingSentAt === undefined) {
      watched.pingSentAt = performance.now();
      session.ping((error) => {
        watched.pongBytes += error === null ? pingFrameBytes : 0;
      });
    } else {
      const isStuck = (session.state.outboundQueueSize ?? 0) > 0 && writableLength === 0;
      if (isStuck || performance.now() - watched.pingSentAt >= options.timeoutMs) {
        session.destroy();
      }
    }
  }

  /** A client may answer PINGs and yet give no window for what it has asked for. */
  function lookAtWrites(session: ServerHttp2Session, watched: Watched): void {
    const waits = [...watched.streams].some((stream) => stream.bufferSize > 0);
    const progress = `${session.state.remoteWindowSize} ${session.socket.bytesRead - watched.pongBytes}`;
    if (!waits || progress !== watched.progress) {
      watched.progress = progress;
      watched.progressAt = performance.now();
    } else if (performance.now() - watched.progressAt >= options.writeTimeoutMs) {
      session.destroy();
    }
  }

  const timer = setInterval(() => {
    for (const [session, watched] of sessions) {
      if (!session.destroyed) {
        lookAtWrites(session, watched);
      }
      if (!session.destroyed) {
        look(session, watched);
      }
    }
  }, options.timeMs);
  // The connections themselves keep a server running.
  timer.unref();

  return {
    watch(session) {
      const streams = new Set<ServerHttp2Stream>();
      sessions.set(session, {
        bytesRead: -1,
        pingSentAt: undefined,
        pongBytes: 0,
        progress: "",
        progressAt: performance.now(),
        streams,
      });
      session.on("stream", (stream) => {
        streams.add(stream);
        stream.once("close", () => streams.delete(stream));
      });
      session.once("close", () => sessions.delete(session));
    },
    close: () => clearInterval(timer),
  };
}
