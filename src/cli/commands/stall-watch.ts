/** Watch over a request without a time limit of its own. */
export interface StallWatch {
  /** Aborted when the request has stalled, with a StallError. */
  readonly signal: AbortSignal;
  /** A stage began, or a step ended. */
  progressed(): void;
  /** The request waits in the queue, which may take any time. */
  queued(): void;
  stop(): void;
}

/** The request has made no progress for too long. */
export class StallError extends Error {
  override readonly name = "StallError";

  constructor(ms: number) {
    super(`no progress for ${Math.round(ms / 1000)} s; --timeout sets a fixed limit for the whole request`);
  }
}

/** Allowed time for a step, in multiples of the slowest one so far. */
const slowestFactor = 5;

/**
 * Give a request up when nothing has happened for `ms` milliseconds, or for five times as long as its slowest step, because a step of a
 * large image can take minutes on a CPU.
 *
 * @param now monotonic clock, in milliseconds.
 */
export function createStallWatch(ms: number, now = () => performance.now()): StallWatch {
  const controller = new AbortController();
  let slowestMs = 0;
  let lastAt: number | undefined;
  let timer: NodeJS.Timeout | undefined;
  const start = (): void => {
    clearTimeout(timer);
    const limitMs = Math.max(ms, slowestFactor * slowestMs);
    timer = setTimeout(() => controller.abort(new StallError(limitMs)), limitMs);
  };
  start();
  return {
    signal: controller.signal,
    progressed() {
      const at = now();
      slowestMs = Math.max(slowestMs, lastAt === undefined ? 0 : at - lastAt);
      lastAt = at;
      start();
    },
    queued() {
      lastAt = undefined;
      clearTimeout(timer);
    },
    stop: () => clearTimeout(timer),
  };
}
