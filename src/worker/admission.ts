/** How many may wait, and how time is told. */
export interface AdmissionOptions {
  /** Requests that may wait for the engine, besides the one that it paints. 0: nobody waits. @default 16 */
  readonly maxWaiting?: number | undefined;
  /** Milliseconds from any fixed point; tests give their own. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Where a waiting request stands. */
export interface QueuePosition {
  /** Requests before this one; 0 is next. */
  readonly position: number;
  /** Estimated milliseconds until its turn; 0 while no painting has been timed yet. */
  readonly estimatedWaitMs: number;
}

/** A request's place, from its admission until it leaves. */
export interface Place {
  /**
   * Waits for the turn: yields the position at once and whenever it changes, and ends when the engine is free for this request.
   * Throws the signal's reason when it is aborted first; the place must be left then too.
   */
  turn(signal: AbortSignal): AsyncGenerator<QueuePosition, void, undefined>;
  /**
   * Gives the place up, waiting or painting. May be called again without harm. Only paintings that came to a picture count for the
   * estimates: those that were cancelled or refused say nothing about how long one takes.
   */
  leave(end: { readonly painted: boolean }): void;
}

export type AdmissionResult =
  | { readonly kind: "admitted"; readonly place: Place }
  /** No room: `retryAfterMs` is when a place may be free, estimated; 0 when nothing is known. */
  | { readonly kind: "full"; readonly retryAfterMs: number };

/** The door to one engine: one request paints, a bounded number waits in the order of its coming, the rest is refused at once. */
export interface Admission {
  enter(): AdmissionResult;
  /** While it is paused nobody gets a turn: the engine is away, and those who wait are to wait for it. */
  setPaused(paused: boolean): void;
  /** Requests that wait now. */
  readonly waiting: number;
}

/** Requests that may wait, where nothing else is said. */
export const defaultMaxWaiting = 16;

/** Weight of the newest painting in the average; the last handful count. */
const smoothing = 0.3;

interface Entry {
  /** Wakes `turn`; replaced after each use. */
  changed: () => void;
}

/** @throws Error when `maxWaiting` is not a whole number of at least 0. */
export function createAdmission(options: AdmissionOptions = {}): Admission {
  const { maxWaiting = defaultMaxWaiting, now = () => performance.now() } = options;
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0) {
    throw new Error(`maxWaiting must be a whole number of at least 0, got ${maxWaiting}`);
  }
  const queue: Entry[] = [];
  // Invariant: `painting` is set if and only if a place was given the turn and has not been left.
  let painting: { readonly entry: Entry; readonly since: number } | undefined;
  let averageMs = 0;
  let paused = false;

  const estimate = (position: number): number => {
    const current = painting === undefined ? 0 : Math.max(0, averageMs - (now() - painting.since));
    return current + position * averageMs;
  };

  const advance = (): void => {
    if (painting === undefined && !paused) {
      const entry = queue.shift();
      if (entry !== undefined) {
        painting = { entry, since: now() };
        entry.changed();
      }
    }
    for (const entry of queue) {
      entry.changed();
    }
  };

  const leave = (entry: Entry, painted: boolean): void => {
    if (painting?.entry === entry) {
      if (painted) {
        const tookMs = now() - painting.since;
        averageMs = averageMs === 0 ? tookMs : averageMs + smoothing * (tookMs - averageMs);
      }
      painting = undefined;
      advance();
      return;
    }
    const index = queue.indexOf(entry);
    if (index >= 0) {
      queue.splice(index, 1);
      advance();
    }
  };

  async function* turn(entry: Entry, signal: AbortSignal): AsyncGenerator<QueuePosition, void, undefined> {
    let told = -1;
    const onAbort = () => entry.changed();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (painting?.entry !== entry) {
        signal.throwIfAborted();
        const changed = new Promise<void>((resolve) => {
          entry.changed = resolve;
        });
        const position = queue.indexOf(entry);
        if (position !== told) {
          told = position;
          yield { position, estimatedWaitMs: estimate(position) };
        }
        await changed;
      }
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  return {
    enter(): AdmissionResult {
      if ((painting !== undefined || paused) && queue.length >= maxWaiting) {
        return { kind: "full", retryAfterMs: estimate(queue.length) };
      }
      const entry: Entry = { changed: () => {} };
      queue.push(entry);
      advance();
      return {
        kind: "admitted",
        place: { turn: (signal) => turn(entry, signal), leave: ({ painted }) => leave(entry, painted) },
      };
    },
    setPaused(value) {
      paused = value;
      advance();
    },
    get waiting() {
      return queue.length;
    },
  };
}
