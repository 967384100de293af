import type { ServerHttp2Session } from "node:http2";
import { createStreamStalls, type StreamStalls } from "./http2-stalls.js";

/** Options of {@link createHttp2Keepalive}. */
export interface Http2KeepaliveOptions {
  /** A connection that is silent for so long gets a PING, in milliseconds. */
  readonly timeMs: number;
  /** A connection whose PING is not answered within so long is cut, in milliseconds. */
  readonly timeoutMs: number;
  /** A stream that takes nothing of what waits in it for so long is reset, in milliseconds. */
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
  /** When the unanswered PING was sent, by the clock of the looks; undefined without one. */
  pingSentAt: number | undefined;
  readonly stalls: StreamStalls;
}

/**
 * Pings silent connections, and cuts those that do not answer. A peer that broke the protocol is cut at the next look: nghttp2 has
 * ended that session by itself, Node has stopped reading its socket and tells nobody, so neither the session nor the socket would ever
 * close. It shows in a PING that stays in the queue while the socket could take it.
 *
 * Time counts as far as there were looks in it: a process that slept, or that the machine had no time for, has not heard what came
 * meanwhile, and wakes up to its timers first.
 */
export function createHttp2Keepalive(options: Http2KeepaliveOptions): Http2Keepalive {
  const sessions = new Map<ServerHttp2Session, Watched>();
  let lookedAt = performance.now();
  let awakeMs = 0;

  function look(session: ServerHttp2Session, watched: Watched): void {
    const { bytesRead, writableLength } = session.socket;
    if (bytesRead !== watched.bytesRead) {
      watched.bytesRead = bytesRead;
      watched.pingSentAt = undefined;
    } else if (watched.pingSentAt === undefined) {
      watched.pingSentAt = awakeMs;
      session.ping(() => {});
    } else {
      const isStuck = (session.state.outboundQueueSize ?? 0) > 0 && writableLength === 0;
      if (isStuck || awakeMs - watched.pingSentAt >= options.timeoutMs) {
        session.destroy();
      }
    }
  }

  const timer = setInterval(() => {
    const now = performance.now();
    awakeMs += Math.min(now - lookedAt, 2 * options.timeMs);
    lookedAt = now;
    for (const [session, watched] of sessions) {
      if (!session.destroyed) {
        // A client may answer PINGs and yet give no window for what it has asked for.
        watched.stalls.look();
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
      const stalls = createStreamStalls(session, options.writeTimeoutMs, () => awakeMs);
      sessions.set(session, { bytesRead: -1, pingSentAt: undefined, stalls });
      session.once("close", () => sessions.delete(session));
    },
    close: () => clearInterval(timer),
  };
}
