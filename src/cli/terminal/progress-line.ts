import { durationWords } from "./duration-words.js";

/** What one piece of work tells of how far it is. */
export interface ProgressNews {
  /** Something new begins, such as `starting the worker`. */
  phase(words: string): void;
  /** Of the phase that runs, so much is done, in units of that name; without a name they are steps. */
  step(done: number, total: number, unit?: string): void;
  /** The phase that runs is over in about so many milliseconds. */
  expect(ms: number): void;
}

/** The line that shows it. */
export interface ProgressLine extends ProgressNews {
  /** The line, of so many columns at most: words, bar, steps, time left. What has no place is left out, the bar first, the words never. */
  draw(columns: number): string;
}

/** Of how many steps the pace is taken: it changes when others begin to share the machine. */
const paceSteps = 10;

const phaseWidth = 21;
/** At 80 columns it has its place beside all figures, so that it keeps its length. */
const longestBar = 24;
const shortestBar = 6;

/** Makes a line on which nothing has begun. */
export function createProgressLine(): ProgressLine {
  let words = "";
  let begunAt = 0;
  let count = { done: 0, total: 0, unit: "" };
  let expectedEnd: number | undefined;
  /** When so many steps were done, the newest last. */
  let paces: { readonly done: number; readonly at: number }[] = [];

  const leftMs = (now: number): number | undefined => {
    if (expectedEnd !== undefined) {
      return expectedEnd - now;
    }
    const [first, last] = [paces[0], paces.at(-1)];
    if (first === undefined || last === undefined || last.done <= first.done) {
      return undefined;
    }
    const stepMs = (last.at - first.at) / (last.done - first.done);
    return stepMs * (count.total - last.done) - (now - last.at);
  };
  return {
    phase(next) {
      if (next !== words) {
        words = next;
        begunAt = Date.now();
        paces = [];
        // A request's steps stay on its bar to its end.
        count = count.unit === "" ? count : { done: 0, total: 0, unit: "" };
        expectedEnd = undefined;
      }
    },
    step(done, total, unit) {
      const goesOn = total === count.total && done >= count.done;
      paces = [...(goesOn ? paces : []), { done, at: Date.now() }].slice(-paceSteps - 1);
      count = { done, total, unit: unit ?? "" };
    },
    expect(ms) {
      expectedEnd = ms > 0 ? Date.now() + ms : undefined;
    },
    draw(columns) {
      const { done, total, unit } = count;
      const now = Date.now();
      const left = leftMs(now) ?? 0;
      const counted = total === 0 ? "" : unit === "" ? `step ${done} of ${total}` : `${done} of ${total} ${unit}`;
      // Where nothing is known a person sees at least that it goes on.
      const passed = counted === "" && now - begunAt >= 1000 ? durationWords(now - begunAt) : "";
      const timed = left > 0 ? `${durationWords(left)} left` : passed;
      const padded = words.padEnd(phaseWidth);
      const taken = join(padded, counted, timed).length + 2;
      const barWidth = Math.min(longestBar, columns - taken);
      if (barWidth >= shortestBar) {
        return join(padded, bar(total === 0 ? 0 : done / total, barWidth), counted, timed);
      }
      const fits = (line: string): boolean => line.length <= columns;
      return [join(words, counted, timed), join(words, counted)].find(fits) ?? words.slice(0, columns);
    },
  };
}

function join(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join("  ");
}

function bar(share: number, width: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}
