import { type Progress as Painting, type Queued, Stage } from "../../gen/throughline/v1/image_pb.js";
import type { ProgressNews } from "./progress-line.js";

/** Tells that a request waits for a free engine. */
export function tellQueued(news: ProgressNews, { position, estimatedWaitMs }: Queued): void {
  news.phase(position === 0 ? "waiting, next in line" : `waiting behind ${position}`);
  news.expect(estimatedWaitMs);
}

/** Tells how far the painting of a request is. */
export function tellPainting(news: ProgressNews, { stage, step, totalSteps }: Painting): void {
  // A newer pipeline may know stages that this command does not.
  news.phase(stageWords.get(stage) ?? "working");
  if (totalSteps > 0) {
    news.step(step, totalSteps);
  }
}

const stageWords = new Map<Stage, string>([
  [Stage.TEXT_ENCODING, "encoding the prompt"],
  [Stage.DENOISING, "denoising"],
  [Stage.VAE_DECODE, "decoding the picture"],
  [Stage.UPLOAD, "storing the picture"],
]);
