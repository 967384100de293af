import type { Clock } from "../clock.js";

/** A wait between two tries that can be cut short. */
export interface Pause {
  /** Resolves after so many milliseconds, or as soon as the pause is ended. One at a time. */
  wait(delayMs: number): Promise<void>;
  /** Ends the wait that is going on; nothing where there is none. */
  end(): void;
}

/** Makes a pause that is over by this clock. */
export function createPause(clock: Clock): Pause {
  let end: (() => void) | undefined;
  return {
    wait: (delayMs) =>
      new Promise((resolve) => {
        const cancel = clock.after(delayMs, resolve);
        end = () => {
          cancel();
          resolve();
        };
      }),
    end: () => end?.(),
  };
}
