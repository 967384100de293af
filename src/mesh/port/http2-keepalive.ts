import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";

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
  /** Looks since then that found the PING still in the queue. */
  stuckLooks: number;
  readonly stalls: StreamStalls;
}

/**
 * Pings silent connections, and cuts those that do not answer. A peer that broke the protocol is cut two looks later: nghttp2 has
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
      watched.stuckLooks = 0;
      session.ping(() => {});
    } else {
      const isQueued = (session.state.outboundQueueSize ?? 0) > 0 && writableLength === 0;
      watched.stuckLooks = isQueued ? watched.stuckLooks + 1 : 0;
      // On a machine without time a PING may wait for one look on its way to the socket.
      if (watched.stuckLooks > 1 || awakeMs - watched.pingSentAt >= options.timeoutMs) {
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
      sessions.set(session, { bytesRead: -1, pingSentAt: undefined, stuckLooks: 0, stalls });
      session.once("close", () => sessions.delete(session));
    },
    close: () => clearInterval(timer),
  };
}

/** Finds streams whose client does not take what waits in them, beside others that move. */
export interface StreamStalls {
  /** Resets the streams that are stalled. Where no other stream is left, the whole connection is cut. */
  look(): void;
}

interface WatchedStream {
  /** Bytes that wait to be sent. */
  waiting: number;
  /** A writer that fills up what was taken may leave the same number of bytes at each look. */
  drained: boolean;
  /** When that was last found, by the clock of the looks. */
  movedAt: number;
}

/** A buffer that is given to a stream in one piece shows no progress until all of it is sent, so a large one gets more time. */
const bytesPerTimeout = 1_048_576;

/**
 * Watches the streams of a connection.
 *
 * @param writeTimeoutMs how long a stream may take nothing of each mebibyte that waits in it.
 * @param now milliseconds in which this process has looked.
 */
export function createStreamStalls(
  session: ServerHttp2Session,
  writeTimeoutMs: number,
  now: () => number,
): StreamStalls {
  const streams = new Map<ServerHttp2Stream, WatchedStream>();
  session.on("stream", (stream) => {
    const watched: WatchedStream = { waiting: 0, drained: false, movedAt: now() };
    streams.set(stream, watched);
    stream.on("drain", () => {
      watched.drained = true;
    });
    stream.once("close", () => streams.delete(stream));
  });

  function isStalled(stream: ServerHttp2Stream, watched: WatchedStream): boolean {
    const waiting = stream.bufferSize;
    if (waiting === 0 || waiting !== watched.waiting || watched.drained) {
      watched.waiting = waiting;
      watched.drained = false;
      watched.movedAt = now();
    }
    return now() - watched.movedAt >= writeTimeoutMs * Math.ceil(waiting / bytesPerTimeout) && waiting > 0;
  }

  return {
    look() {
      const stalled = [...streams].filter(([stream, watched]) => isStalled(stream, watched)).map(([stream]) => stream);
      if (stalled.length > 0 && stalled.length === streams.size) {
        session.destroy();
        return;
      }
      for (const stream of stalled) {
        stream.close(constants.NGHTTP2_CANCEL);
      }
    },
  };
}
