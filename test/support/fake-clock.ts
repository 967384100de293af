import type { Clock } from "../../src/trace/telemetry/export-report.js";

/** Time that stands still until a test moves it. */
export interface FakeClock extends Clock {
  /** Moves on, and runs what is due, in its order and each at its own time. */
  advance(ms: number): void;
  /** Milliseconds until each thing that is to run. */
  due(): number[];
}

export function createFakeClock(): FakeClock {
  let now = 0;
  let timers: { readonly at: number; readonly run: () => void }[] = [];
  return {
    now: () => now,
    after(delayMs, run) {
      const timer = { at: now + delayMs, run };
      timers = [...timers, timer].toSorted((a, b) => a.at - b.at);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    advance(ms) {
      const end = now + ms;
      for (let next = timers[0]; next !== undefined && next.at <= end; next = timers[0]) {
        timers = timers.slice(1);
        now = next.at;
        next.run();
      }
      now = end;
    },
    due: () => timers.map(({ at }) => at - now),
  };
}
