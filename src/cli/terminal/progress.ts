import { SingleBar } from "cli-progress";
import { Stage } from "../../gen/throughline/v1/image_pb.js";
import type { GenerateStreamResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import type { Output } from "../command-context.js";

/** Shows a person how far a command is. */
export interface Progress {
  /** Something new begins, such as `starting the worker`. */
  phase(words: string): void;
  /** Of the phase that runs, so much is done, in units of that name. */
  step(done: number, total: number, unit?: string): void;
  /** Takes a bar off the terminal. Nothing is shown afterwards. */
  end(): void;
}

/** A bar where a person sees it on a terminal, else a line for each phase; nothing when `quiet`. */
export function createProgress(output: Output, quiet: boolean): Progress {
  if (quiet) {
    return { phase() {}, step() {}, end() {} };
  }
  return output.isTTY ? createBar(output) : createLines(output);
}

/** Tells one event of a streaming request. */
export function showEvent(progress: Progress, { event }: GenerateStreamResponse): void {
  switch (event.case) {
    case "queued":
      progress.phase(event.value.position === 0 ? "waiting, next in line" : `waiting behind ${event.value.position}`);
      break;
    case "progress":
      // A newer pipeline may know stages that this command does not.
      progress.phase(stageWords.get(event.value.stage) ?? "working");
      if (event.value.totalSteps > 0) {
        progress.step(event.value.step, event.value.totalSteps);
      }
      break;
    case "result":
    case undefined:
      break;
  }
}

const stageWords = new Map<Stage, string>([
  [Stage.TEXT_ENCODING, "encoding the prompt"],
  [Stage.DENOISING, "denoising"],
  [Stage.VAE_DECODE, "decoding the picture"],
  [Stage.UPLOAD, "storing the picture"],
]);

const phaseWidth = 24;

function createBar(output: Output): Progress {
  const bar = new SingleBar({
    stream: output,
    format: "{phase} {bar} {count}",
    barCompleteChar: "█",
    barIncompleteChar: "░",
    barsize: 30,
    clearOnComplete: true,
    // The terminal's modes stay as they are: a command that is killed could not set them back.
    hideCursor: false,
    linewrap: true,
    // Signals are the main program's affair.
    gracefulExit: false,
  });
  let current: string | undefined;
  let ended = false;
  return {
    phase(words) {
      if (ended) {
        return;
      }
      if (current === undefined) {
        bar.start(1, 0, { phase: words.padEnd(phaseWidth), count: "" });
      } else if (words !== current) {
        bar.update({ phase: words.padEnd(phaseWidth) });
        bar.render();
      }
      current = words;
    },
    step(done, total, unit) {
      bar.setTotal(total);
      bar.update(done, { count: `${done} of ${total}${unit === undefined ? "" : ` ${unit}`}` });
    },
    end() {
      if (!ended) {
        ended = true;
        bar.stop();
      }
    },
  };
}

function createLines(output: Output): Progress {
  let current = "";
  let ended = false;
  return {
    phase(words) {
      if (words !== current && !ended) {
        current = words;
        output.write(`${words}\n`);
      }
    },
    step() {},
    end() {
      ended = true;
    },
  };
}
