import type { Clock } from "../clock.js";

/** A line for the log that is not said too often. */
export interface QuietLine {
  /** Says the line now or, where it was said within the last minute, when the minute is over. */
  ask(): void;
  /** Says a line that was asked for and not said. */
  close(): void;
}

const intervalMs = 60_000;

/** A line that is said at once, and then at most once a minute. */
export function createQuietLine(clock: Clock, say: () => void): QuietLine {
  let isOwed = false;
  let cancel: (() => void) | undefined;
  const ask = () => {
    if (cancel) {
      isOwed = true;
      return;
    }
    isOwed = false;
    cancel = clock.after(intervalMs, () => {
      cancel = undefined;
      if (isOwed) {
        ask();
      }
    });
    say();
  };
  return {
    ask,
    close() {
      cancel?.();
      if (isOwed) {
        isOwed = false;
        say();
      }
    },
  };
}
