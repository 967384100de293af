import type { CommandContext, Output } from "../command-context.js";
import { durationWords } from "./duration-words.js";
import { createLiveLines } from "./live-lines.js";
import { createProgressLine, type ProgressNews } from "./progress-line.js";
import { isInteractive } from "./terminal.js";

/** Shows a person how far a command is. */
export interface Progress extends ProgressNews {
  /** Writes something that stays, such as a warning, without tearing a bar. */
  above(write: () => void): void;
  /** Takes a bar off the terminal. Nothing is shown afterwards. */
  end(): void;
}

/** A bar on stderr where a person sees it on a terminal, else a line for each phase; nothing when `quiet`. */
export function createProgress(context: Pick<CommandContext, "stderr" | "environment">, quiet: boolean): Progress {
  const { stderr, environment } = context;
  if (quiet) {
    return { phase() {}, step() {}, expect() {}, above: (write) => write(), end() {} };
  }
  return isInteractive(stderr, environment) ? createBar(stderr) : createLines(stderr);
}

function createBar(output: Output): Progress {
  const line = createProgressLine();
  const live = createLiveLines({ output, draw: (columns) => [line.draw(columns)] });
  return {
    phase(words) {
      line.phase(words);
      live.redraw();
    },
    step(done, total, unit) {
      line.step(done, total, unit);
      live.redraw();
    },
    expect(ms) {
      line.expect(ms);
      live.redraw();
    },
    above: live.above,
    end: live.end,
  };
}

/** From here on a person who sees no bar is told how long it takes. */
const longMs = 60_000;

function createLines(output: Output): Progress {
  let current = "";
  let begunAt = 0;
  let ended = false;
  return {
    phase(words) {
      if (words !== current && !ended) {
        current = words;
        begunAt = Date.now();
        output.write(`${words}\n`);
      }
    },
    step(done, total, unit) {
      const leftMs = (Date.now() - begunAt) * (total - 1);
      if (done === 1 && unit === undefined && leftMs >= longMs && !ended) {
        output.write(`about ${durationWords(leftMs)} left for ${total - 1} more steps\n`);
      }
    },
    expect() {},
    above: (write) => write(),
    end() {
      ended = true;
    },
  };
}
