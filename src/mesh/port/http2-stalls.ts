import { constants, type ServerHttp2Session, type ServerHttp2Stream } from "node:http2";

/** Finds streams whose client does not take what waits in them, beside others that move. */
export interface StreamStalls {
  /** Resets the streams that are stalled. Where no other stream is left, the whole connection is cut. */
  look(): void;
}

interface Watched {
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
  const streams = new Map<ServerHttp2Stream, Watched>();
  session.on("stream", (stream) => {
    const watched: Watched = { waiting: 0, drained: false, movedAt: now() };
    streams.set(stream, watched);
    stream.on("drain", () => {
      watched.drained = true;
    });
    stream.once("close", () => streams.delete(stream));
  });

  function isStalled(stream: ServerHttp2Stream, watched: Watched): boolean {
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
