import type { Engine, PaintRequest, PaintSettings } from "../engine/engine.js";
import { PaintError } from "../engine/paint-error.js";
import { resolveSettings } from "../engine/paint-settings.js";
import type { GenerationOptions } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest } from "../gen/throughline/v1/worker_pb.js";
import { seedOf } from "../image/seed.js";
import { paintRequestOf } from "./generation-options.js";
import { refusalOfPaintError } from "./paint-error-to-connect.js";
import { type PaintingWork, paintingWork } from "./painting-estimate.js";

/** A request in the engine's terms, checked against what its model can take. */
export interface Job {
  readonly request: PaintRequest;
  readonly settings: PaintSettings;
  readonly work: PaintingWork;
  /** As they came, for what is not the engine's affair. */
  readonly options: GenerationOptions | undefined;
}

/**
 * @param withPreviews whether anybody reads previews.
 * @throws ConnectError INVALID_ARGUMENT, naming the field and what the model takes.
 */
export function jobOf({ prompt, options }: InferRequest, { info: { limits } }: Engine, withPreviews: boolean): Job {
  const request = paintRequestOf({ prompt, seed: seedOf(options), options, withPreviews });
  try {
    const settings = resolveSettings(request, limits);
    return { request, settings, work: paintingWork(settings, limits), options };
  } catch (error) {
    throw error instanceof PaintError ? refusalOfPaintError(error) : error;
  }
}
