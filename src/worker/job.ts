import type { Engine, GenerationRequest, GenerationSettings, SchedulerName } from "../engine/engine.js";
import { limitSizes, resolveSettings } from "../engine/generation-limits.js";
import { type GenerationOptions, ImageFormat, Scheduler } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest } from "../gen/throughline/v1/worker_pb.js";

import type { ImageFormat as Encoding } from "../image/image-format.js";
import { seedOf } from "../image/seed.js";

import { type GenerationWork, generationWork } from "./generation-estimate.js";

/** Request in the engine's terms, validated against the model's limits. */
export interface Job {
  readonly request: GenerationRequest;
  readonly settings: GenerationSettings;
  readonly work: GenerationWork;
  /** Options of the contract, for delivery and encoding. */
  readonly options: GenerationOptions | undefined;
}

/** Pixels of a side that the contract's rules accept, so that errors name no size that they reject. */
const contractSides = { minimum: 64, maximum: 2048 };

/**
 * Translate a request and validate it against the model's limits.
 *
 * @param withPreviews whether to generate previews.
 * @throws GenerationError `unsupported`, with every invalid field and the model's limits.
 */
export function jobOf({ prompt, options }: InferRequest, { info }: Engine, withPreviews: boolean): Job {
  const limits = limitSizes(info.limits, contractSides.minimum, contractSides.maximum);
  const request = generationRequestOf({ prompt, seed: seedOf(options), options, withPreviews });
  const settings = resolveSettings(request, limits);
  return { request, settings, work: generationWork(settings, limits), options };
}

/** Engine's schedulers by the contract's. Unknown values are rejected by the contract's rules. */
const schedulers: Record<Scheduler, SchedulerName | undefined> = {
  [Scheduler.UNSPECIFIED]: undefined,
  [Scheduler.EULER_DISCRETE]: "euler-discrete",
  [Scheduler.EULER_ANCESTRAL]: "euler-ancestral",
  [Scheduler.DPMPP_2M]: "dpmpp-2m",
  [Scheduler.DPMPP_2M_KARRAS]: "dpmpp-2m-karras",
  [Scheduler.DDIM]: "ddim",
  [Scheduler.LCM]: "lcm",
};

const encodings: Record<ImageFormat, Encoding> = {
  [ImageFormat.UNSPECIFIED]: "png",
  [ImageFormat.PNG]: "png",
  [ImageFormat.JPEG]: "jpeg",
  [ImageFormat.WEBP]: "webp",
};

/** Parameters of {@link generationRequestOf}. */
export interface GenerationRequestInit {
  readonly prompt: string;
  readonly seed: number;
  readonly options: GenerationOptions | undefined;
  /** Whether to generate previews. */
  readonly withPreviews: boolean;
}

/** Build the engine's request. Absent options stay absent, so that the model's defaults apply. */
export function generationRequestOf({ prompt, seed, options, withPreviews }: GenerationRequestInit): GenerationRequest {
  return {
    prompt,
    seed,
    negativePrompt: options?.negativePrompt,
    width: options?.width,
    height: options?.height,
    steps: options?.numInferenceSteps,
    guidanceScale: options?.guidanceScale,
    previewInterval: withPreviews ? options?.previewInterval : undefined,
    scheduler: schedulers[options?.scheduler ?? Scheduler.UNSPECIFIED],
  };
}

/** Return the requested encoding. @default png */
export function encodingOf(options: GenerationOptions | undefined): Encoding {
  return encodings[options?.format ?? ImageFormat.UNSPECIFIED];
}
