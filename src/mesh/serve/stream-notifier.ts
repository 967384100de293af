/** Wakes the one generator that writes a stream of updates. */
export interface Notifier {
  /** Says that there is updates. It is kept until somebody waits. */
  ring(): void;
  /**
   * Waits for updates. Never rejects, and leaves no timer and no listener behind.
   *
   * @param signal the call's.
   * @param quietMs milliseconds to wait at most. Absent: no limit.
   * @returns `rung`; `quiet` when the time is over; `left` when the signal is aborted.
   */
  wait(signal: AbortSignal, quietMs?: number): Promise<"rung" | "quiet" | "left">;
}

/** Makes a notifier. */
export function createNotifier(): Notifier {
  let rung = false;
  let wake: (() => void) | undefined;
  return {
    ring() {
      rung = true;
      wake?.();
    },
    wait(signal, quietMs) {
      return new Promise((resolve) => {
        let timer: NodeJS.Timeout | undefined;
        const settle = () => {
          wake = undefined;
          clearTimeout(timer);
          signal.removeEventListener("abort", settle);
          resolve(signal.aborted ? "left" : rung ? "rung" : "quiet");
          rung = false;
        };
        if (rung || signal.aborted) {
          return settle();
        }
        wake = settle;
        signal.addEventListener("abort", settle);
        if (quietMs !== undefined) {
          timer = setTimeout(settle, quietMs);
        }
      });
    },
  };
}
