import { type Progress as Generation, type Queued, Stage } from "../../gen/throughline/v1/image_pb.js";
import type { CommandContext, Output } from "../command.js";
import { createLiveLines } from "./live-lines.js";
import { formatWait, isInteractive } from "./terminal.js";

/** Receives the progress of one piece of work. */
export interface ProgressReporter {
  /** A new phase begins, such as `starting the worker`. */
  phase(label: string): void;
  /** So much of the phase is done, in units of that name; without a name they are steps. */
  step(done: number, total: number, unit?: string): void;
  /** The phase ends in about so many milliseconds. */
  expect(ms: number): void;
}

/** Shows the progress of a command. */
export interface Progress extends ProgressReporter {
  /** Writes something that stays, such as a warning, without tearing a bar. */
  above(write: () => void): void;
  /** Removes a bar from the terminal. Nothing is shown afterwards. */
  end(): void;
}

/** A bar on stderr if that is a terminal, else a line for each phase; nothing when `quiet`. */
export function createProgress(context: Pick<CommandContext, "stderr" | "environment">, quiet: boolean): Progress {
  const { stderr, environment } = context;
  if (quiet) {
    return { phase() {}, step() {}, expect() {}, above: (write) => write(), end() {} };
  }
  return isInteractive(stderr, environment) ? createBar(stderr) : createLines(stderr);
}

function createBar(output: Output): Progress {
  const line = createProgressLine();
  const live = createLiveLines(output, (columns) => [line.draw(columns)]);
  const redrawn =
    <Arguments extends unknown[]>(report: (...values: Arguments) => void) =>
    (...values: Arguments) => {
      report(...values);
      live.redraw();
    };
  return {
    phase: redrawn(line.phase),
    step: redrawn(line.step),
    expect: redrawn(line.expect),
    above: live.above,
    end: live.end,
  };
}

/** Without a bar, a longer time left is reported after the first step, in milliseconds. */
const longMs = 60_000;

function createLines(output: Output): Progress {
  let current = "";
  let begunAt = 0;
  let ended = false;
  return {
    phase(label) {
      if (label !== current && !ended) {
        current = label;
        begunAt = Date.now();
        output.write(`${label}\n`);
      }
    },
    step(done, total, unit) {
      const leftMs = (Date.now() - begunAt) * (total - 1);
      if (done === 1 && unit === undefined && leftMs >= longMs && !ended) {
        output.write(`about ${formatWait(leftMs)} left for ${total - 1} more steps\n`);
      }
    },
    expect() {},
    above: (write) => write(),
    end() {
      ended = true;
    },
  };
}

/** Formats progress as a line. */
export interface ProgressLine extends ProgressReporter {
  /** The line, of so many columns at most: label, bar or spinner, steps, time left. The bar is left out first, the label never. */
  draw(columns: number): string;
}

/** The newest steps that the pace is computed from: it changes when others begin to share the machine. */
const paceSteps = 10;

const labelWidth = 21;
/** Fits beside everything else at 80 columns, so that it keeps its length. */
const longestBar = 24;
const shortestBar = 6;
const spinnerFrames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏";
const spinnerFrameMs = 250;

export function createProgressLine(): ProgressLine {
  let label = "";
  let begunAt = 0;
  let count = { done: 0, total: 0, unit: "" };
  let expectedEnd: number | undefined;
  /** Times of the newest steps, the newest last. */
  let paces: { readonly done: number; readonly at: number }[] = [];

  const leftMs = (now: number): number => {
    if (expectedEnd !== undefined) {
      return expectedEnd - now;
    }
    const [first, last] = [paces[0], paces.at(-1)];
    if (first === undefined || last === undefined || last.done <= first.done) {
      return 0;
    }
    const stepMs = (last.at - first.at) / (last.done - first.done);
    return stepMs * (count.total - last.done) - (now - last.at);
  };
  return {
    phase(next) {
      if (next !== label) {
        label = next;
        begunAt = Date.now();
        paces = [];
        // The steps of a request stay on its bar to its end.
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
      const left = leftMs(now);
      const counted = total === 0 ? "" : unit === "" ? `step ${done} of ${total}` : `${done} of ${total} ${unit}`;
      const passed = counted === "" && now - begunAt >= 1000 ? formatWait(now - begunAt) : "";
      const timed = left > 0 ? `${formatWait(left)} left` : passed;
      const padded = label.padEnd(labelWidth);
      const barWidth = total === 0 ? 1 : Math.min(longestBar, columns - join(padded, counted, timed).length - 2);
      const drawn = total === 0 ? spinner(now) : barWidth < shortestBar ? "" : bar(done / total, barWidth);
      const fits = (line: string): boolean => line.length <= columns;
      const lines = [...(drawn === "" ? [] : [join(padded, drawn, counted, timed)]), join(label, counted, timed)];
      return [...lines, join(label, counted)].find(fits) ?? label.slice(0, columns);
    },
  };
}

function join(...parts: readonly string[]): string {
  return parts.filter((part) => part !== "").join("  ");
}

function spinner(now: number): string {
  return spinnerFrames[Math.floor(now / spinnerFrameMs) % spinnerFrames.length] ?? "";
}

function bar(share: number, width: number): string {
  const full = Math.round(Math.min(Math.max(share, 0), 1) * width);
  return "█".repeat(full) + "░".repeat(width - full);
}

/** Shows that a request waits in the queue. */
export function showQueued(reporter: ProgressReporter, { position, estimatedWaitMs }: Queued): void {
  reporter.phase(position === 0 ? "waiting, next in line" : `waiting behind ${position}`);
  reporter.expect(estimatedWaitMs);
}

/** Shows the stage and the step of a request. */
export function showStage(reporter: ProgressReporter, { stage, step, totalSteps }: Generation): void {
  // A newer pipeline may have stages that this command does not know.
  reporter.phase(stageLabels.get(stage) ?? "working");
  if (totalSteps > 0) {
    reporter.step(step, totalSteps);
  }
}

const stageLabels = new Map<Stage, string>([
  [Stage.TEXT_ENCODING, "encoding the prompt"],
  [Stage.DENOISING, "denoising"],
  [Stage.VAE_DECODE, "decoding the image"],
  [Stage.UPLOAD, "storing the image"],
]);
