import { Stage } from "../../contracts/contracts.js";
import { roughDuration } from "../shell/format.js";
import type { Running } from "./generation.js";

const stageLabel: ReadonlyMap<Stage, string> = new Map([
  [Stage.TEXT_ENCODING, "Reading the prompt"],
  [Stage.DENOISING, "Denoising"],
  [Stage.VAE_DECODE, "Decoding the image"],
  [Stage.UPLOAD, "Encoding the image"],
]);

/** Label of the current phase. */
export function phaseLabel({ phase }: Running): string {
  switch (phase.kind) {
    case "sent":
      return "Asking for a worker";
    case "queued":
      return phase.position === 0 ? "Waiting: next in line" : `Waiting: ${phase.position} before you`;
    case "stage":
      // A newer pipeline may have other stages.
      return stageLabel.get(phase.stage) ?? "Working";
  }
}

/** Step and time left, such as `step 5 of 20, about 3 s left`; empty if unknown. */
export function progressDetail(running: Running, leftMs: number | undefined): string {
  const { phase } = running;
  if (phase.kind === "queued") {
    if (phase.noWorker) {
      return "begins when a worker starts";
    }
    return phase.estimatedWaitMs > 0 ? `begins in about ${roughDuration(phase.estimatedWaitMs)}` : "";
  }
  const step = phase.kind === "stage" && phase.stage === Stage.DENOISING && running.totalSteps > 0;
  return [
    ...(step ? [`step ${running.step} of ${running.totalSteps}`] : []),
    ...(leftMs === undefined || phase.kind === "sent" ? [] : [`about ${roughDuration(leftMs)} left`]),
  ].join(", ");
}

/** Text for screen readers. It changes only when the request waits, starts denoising, and is half done: they read no text twice. */
export function progressText(running: Running): string {
  const { phase, step, totalSteps } = running;
  if (phase.kind === "stage" && phase.stage === Stage.DENOISING) {
    return totalSteps > 0 && step * 2 >= totalSteps ? "Half done" : "Denoising";
  }
  return phase.kind === "queued" ? phaseLabel(running) : "";
}
