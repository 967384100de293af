import {
  type Engine,
  GenerationError,
  type GenerationRequest,
  type GenerationSettings,
  type SchedulerName,
} from "../engine/engine.js";
import { limitSizes, resolveSettings } from "../engine/generation-limits.js";
import { Delivery, type GenerationOptions, ImageFormat, Scheduler } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest } from "../gen/throughline/v1/worker_pb.js";
import type { ImageDelivery, ImageTarget } from "../image/delivery.js";
import type { ImageFormat as Encoding } from "../image/encode-image.js";
import { seedOf } from "../image/seed.js";
import { rejectionOfGenerationError } from "./generation-error-to-connect.js";
import { type GenerationWork, generationWork } from "./generation-estimate.js";

/** A request in the engine's terms, checked against what its model can take. */
export interface Job {
  readonly request: GenerationRequest;
  readonly settings: GenerationSettings;
  readonly work: GenerationWork;
  /** As they came, for what is not the engine's affair. */
  readonly options: GenerationOptions | undefined;
}

/** Pixels of a side that the contract's rules accept: an error names no size that they reject. */
const contractSides = { minimum: 64, maximum: 2048 };

/**
 * @param withPreviews whether anybody reads previews.
 * @throws ConnectError INVALID_ARGUMENT, naming every wrong field and what the model takes.
 */
export function jobOf({ prompt, options }: InferRequest, { info }: Engine, withPreviews: boolean): Job {
  const limits = limitSizes(info.limits, contractSides.minimum, contractSides.maximum);
  const request = generationRequestOf({ prompt, seed: seedOf(options), options, withPreviews });
  try {
    const settings = resolveSettings(request, limits);
    return { request, settings, work: generationWork(settings, limits), options };
  } catch (error) {
    throw error instanceof GenerationError ? rejectionOfGenerationError(error) : error;
  }
}

/** Contract to engine. The values are checked by the contract's rules before they come here. */
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

/** How a request is put to the engine. */
export interface GenerationRequestInit {
  readonly prompt: string;
  readonly seed: number;
  readonly options: GenerationOptions | undefined;
  /** Whether anybody reads previews. */
  readonly withPreviews: boolean;
}

/** The engine's request for a prompt with options; what is absent stays absent, so that the model's own default holds. */
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

/** The encoding that the options ask for; PNG unless they do. */
export function encodingOf(options: GenerationOptions | undefined): Encoding {
  return encodings[options?.format ?? ImageFormat.UNSPECIFIED];
}

/** How the options ask for the image to be delivered. Without a store that is a `data:` URI, unless they ask for bytes. */
export function deliveryOf(options: GenerationOptions | undefined, target: ImageTarget | undefined): ImageDelivery {
  if (options?.delivery === Delivery.INLINE) {
    return "inline";
  }
  return options?.delivery === Delivery.DATA_URI ? "data-uri" : (target ?? "data-uri");
}
