import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";

/** Options of {@link createHttp2Keepalive}. */
export interface Http2KeepaliveOptions {
  /** Silence after which a connection gets a PING, in milliseconds. */
  readonly timeMs: number;
  /** Time limit for the PING's acknowledgement, in milliseconds; then the connection is closed. */
  readonly timeoutMs: number;
  /** Time without progress after which a stream with pending data is reset, in milliseconds. */
  readonly writeTimeoutMs: number;
}

/** Detector of dead HTTP/2 connections. */
export interface Http2Keepalive {
  /** Watches a connection until it closes. */
  watch(session: ServerHttp2Session): void;
  /** Stops watching. */
  close(): void;
}

interface Watched {
  bytesRead: number;
  /** When the pending PING was sent, on the clock of the checks; undefined without one. */
  pingSentAt: number | undefined;
  /** Consecutive checks that found the PING still in the queue. */
  stuckChecks: number;
  readonly stalls: StreamStalls;
}

/**
 * Ping silent connections and close those that do not answer.
 *
 * After a protocol error of the peer, nghttp2 ends the session and Node stops reading the socket without an event, so neither would ever
 * close. The symptom is a PING that stays in the queue although the socket is writable; such a connection is closed after two checks.
 *
 * The clock counts only time with checks: a suspended or starved process runs its timers before it reads what has arrived meanwhile.
 */
export function createHttp2Keepalive(options: Http2KeepaliveOptions): Http2Keepalive {
  const sessions = new Map<ServerHttp2Session, Watched>();
  let checkedAt = performance.now();
  let awakeMs = 0;

  function check(session: ServerHttp2Session, watched: Watched): void {
    const { bytesRead, writableLength } = session.socket;
    if (bytesRead !== watched.bytesRead) {
      watched.bytesRead = bytesRead;
      watched.pingSentAt = undefined;
    } else if (watched.pingSentAt === undefined) {
      watched.pingSentAt = awakeMs;
      watched.stuckChecks = 0;
      session.ping(() => {});
    } else {
      const isQueued = (session.state.outboundQueueSize ?? 0) > 0 && writableLength === 0;
      watched.stuckChecks = isQueued ? watched.stuckChecks + 1 : 0;
      // On an overloaded machine a PING may be queued for one check.
      if (watched.stuckChecks > 1 || awakeMs - watched.pingSentAt >= options.timeoutMs) {
        session.destroy();
      }
    }
  }

  const timer = setInterval(() => {
    const now = performance.now();
    awakeMs += Math.min(now - checkedAt, 2 * options.timeMs);
    checkedAt = now;
    for (const [session, watched] of sessions) {
      if (!session.destroyed) {
        // A client may answer PINGs and still not read its streams.
        watched.stalls.check();
      }
      if (!session.destroyed) {
        check(session, watched);
      }
    }
  }, options.timeMs);
  // The connections keep the process running.
  timer.unref();

  return {
    watch(session) {
      const stalls = createStreamStalls(session, options.writeTimeoutMs, () => awakeMs);
      sessions.set(session, { bytesRead: -1, pingSentAt: undefined, stuckChecks: 0, stalls });
      session.once("close", () => sessions.delete(session));
    },
    close: () => clearInterval(timer),
  };
}

/** Detector of stalled streams: the client does not read them. */
export interface StreamStalls {
  /** Resets stalled streams. If all streams are stalled, closes the connection. */
  check(): void;
}

interface WatchedStream {
  /** Bytes to be sent. */
  waiting: number;
  /** Set on `drain`: a writer may refill the buffer to the same number of bytes between two checks. */
  drained: boolean;
  /** Time of the last progress, on the clock of the checks. */
  movedAt: number;
}

/** Bytes per `writeTimeoutMs`. A buffer written in one piece shows no progress until it is sent, so a large one gets more time. */
const bytesPerTimeout = 1_048_576;

/**
 * Watch the streams of a connection.
 *
 * @param writeTimeoutMs time limit without progress, for each pending mebibyte.
 * @param now clock of the checks, in milliseconds.
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
    check() {
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
