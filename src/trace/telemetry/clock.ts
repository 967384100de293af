/** Time as the export of spans knows it; a test can drive one of its own. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Runs something once, after so many milliseconds. Does not keep the process alive. @returns what calls it off. */
  after(delayMs: number, run: () => void): () => void;
}

/** The process's own time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs).unref();
    return () => clearTimeout(timer);
  },
};
