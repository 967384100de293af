/** Notifier of the generator that writes a stream of updates. */
export interface Notifier {
  /** Signals an update. Stored until the next `wait`. */
  notify(): void;
  /**
   * Waits for an update. Never rejects; removes its timer and listener.
   *
   * @param signal the call's.
   * @param timeoutMs maximum wait, in milliseconds. Absent: no limit.
   * @returns `notified`; `timeout` after `timeoutMs`; `aborted` once the signal is.
   */
  wait(signal: AbortSignal, timeoutMs?: number): Promise<"notified" | "timeout" | "aborted">;
}

/** Create a notifier. */
export function createNotifier(): Notifier {
  let notified = false;
  let wake: (() => void) | undefined;
  return {
    notify() {
      notified = true;
      wake?.();
    },
    wait(signal, timeoutMs) {
      return new Promise((resolve) => {
        let timer: NodeJS.Timeout | undefined;
        const settle = () => {
          wake = undefined;
          clearTimeout(timer);
          signal.removeEventListener("abort", settle);
          resolve(signal.aborted ? "aborted" : notified ? "notified" : "timeout");
          notified = false;
        };
        if (notified || signal.aborted) {
          return settle();
        }
        wake = settle;
        signal.addEventListener("abort", settle);
        if (timeoutMs !== undefined) {
          timer = setTimeout(settle, timeoutMs);
        }
      });
    },
  };
}
