/** Pauses between tries, which can be ended early. */
export interface Pauses {
  /** Resolves after that many milliseconds, never for undefined, and at once when woken or aborted. */
  wait(ms: number | undefined, signal: AbortSignal): Promise<void>;
  /** Ends the pause. */
  wake(): void;
}

/** Creates pauses, one at a time. */
export function createPauses(): Pauses {
  let end = () => {};
  return {
    wait: (ms, signal) =>
      new Promise((resolve) => {
        if (signal.aborted) {
          resolve();
          return;
        }
        const timer = ms === undefined ? undefined : setTimeout(() => end(), ms);
        const onAbort = () => end();
        end = () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", onAbort);
          resolve();
        };
        signal.addEventListener("abort", onAbort, { once: true });
      }),
    wake: () => end(),
  };
}
