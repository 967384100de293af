import { maxTimerMs } from "../environment-reader.js";

/** How long to wait before an export is tried again. */
export interface BackOff {
  /**
   * Milliseconds until the next try, after one more failure in a row.
   *
   * @param askedMs What the collector asked for, which is then the least; 0 counts as not asked.
   */
  next(askedMs?: number): number;
  /** Forgets the failures, after a success. */
  reset(): void;
}

export interface BackOffOptions {
  /** Numbers from 0 up to 1. @default Math.random */
  readonly random?: () => number;
}

const firstMs = 1000;
const factor = 1.6;
/** A collector that comes back does not wait longer than this for what was kept for it, jitter aside. */
const longestMs = 30_000;
const jitter = 0.2;

/**
 * Exponential back-off with jitter: 1 s, then 1.6 times as much after each failure up to 30 s, each a fifth more or less at random. What a
 * collector asks for is kept to, with up to a fifth on top, so that those it turned away together do not come back together.
 *
 * @see https://opentelemetry.io/docs/specs/otlp/#otlpgrpc-throttling
 * @see https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md for the first step, the factor and the jitter
 */
export function createBackOff({ random = Math.random }: BackOffOptions = {}): BackOff {
  let failures = 0;
  return {
    next(askedMs = 0) {
      const ownMs = Math.min(firstMs * factor ** failures, longestMs) * (1 + jitter * (2 * random() - 1));
      failures++;
      return Math.min(askedMs > 0 ? askedMs * (1 + jitter * random()) : ownMs, maxTimerMs);
    },
    reset() {
      failures = 0;
    },
  };
}
