/** Options of {@link createSerialWork}. */
export interface SerialWorkOptions {
  readonly work: () => Promise<void>;
  readonly onFailed: (error: unknown) => void;
  /** Pause before work that has failed runs again, in milliseconds. */
  readonly retryMs: number;
  readonly isClosed: () => boolean;
}

/** Work of which one run ends before the next begins. */
export interface SerialWork {
  /** Runs it within a time, in milliseconds. During a run: again after it. */
  runWithin(ms: number): void;
  /** Drops what has not begun, and waits for the current run. */
  close(): Promise<void>;
}

/** Creates work that runs one at a time, such as reads that notifications ask for. */
export function createSerialWork({ work, onFailed, retryMs, isClosed }: SerialWorkOptions): SerialWork {
  let timer: NodeJS.Timeout | undefined;
  let dueAt = Number.POSITIVE_INFINITY;
  let running: Promise<void> | undefined;
  let again: number | undefined;

  const run = (): void => {
    timer = undefined;
    dueAt = Number.POSITIVE_INFINITY;
    running = work()
      .catch((error: unknown) => {
        onFailed(error);
        again = Math.max(again ?? 0, retryMs);
      })
      .finally(() => {
        running = undefined;
        const next = again;
        again = undefined;
        if (next !== undefined) {
          runWithin(next);
        }
      });
  };
  const runWithin = (ms: number): void => {
    if (isClosed()) {
      return;
    }
    if (running !== undefined) {
      again = Math.min(again ?? ms, ms);
      return;
    }
    const at = performance.now() + ms;
    if (at < dueAt) {
      clearTimeout(timer);
      dueAt = at;
      timer = setTimeout(run, ms).unref();
    }
  };
  return {
    runWithin,
    async close() {
      clearTimeout(timer);
      await running;
    },
  };
}
