import { create } from "@bufbuild/protobuf";
import type {
  Engine,
  EngineInfo,
  GenerationLimits,
  GenerationRequest,
  GenerationSettings,
  SchedulerName,
} from "../engine/engine.js";
import { narrowLimits, resolveSettings } from "../engine/generation-limits.js";
import {
  type GenerationOptions,
  GenerationOptionsSchema,
  ImageFormat,
  LoraSchema,
  Scheduler,
  SchedulerSchema,
} from "../gen/throughline/v1/image_pb.js";
import type { InferRequest } from "../gen/throughline/v1/worker_pb.js";
import type { ImageFormat as Format } from "../image/image-format.js";
import { seedOf } from "../image/seed.js";
import { requestLimits } from "../request-limits.js";

import { type GenerationWork, generationWork } from "./generation-estimate.js";

/** Request in the engine's terms, validated against the model's limits. */
export interface Job {
  /** Without the image to start from, which is `initImage`, not decoded. */
  readonly request: GenerationRequest;
  /** Encoded image to start from; undefined without one. */
  readonly initImage: Uint8Array | undefined;
  readonly settings: GenerationSettings;
  readonly work: GenerationWork;
  /** Options of the contract, for delivery and encoding. */
  readonly options: GenerationOptions | undefined;
}

/** Values that the contract's rules accept, so that descriptions and errors name none that they reject. */
const contractRange = {
  minimumSide: requestLimits.side.min,
  maximumSide: requestLimits.side.max,
  maximumSteps: requestLimits.steps.max,
  maximumClipSkip: requestLimits.clipSkip.max,
};

/** Limits of a model, narrowed to those of the contract. */
export function contractLimits({ limits }: EngineInfo): GenerationLimits {
  return narrowLimits(limits, contractRange);
}

/**
 * Translate a request and validate it against the model's limits.
 *
 * @param withPreviews whether to generate previews.
 * @throws GenerationError `unsupported`, with every invalid field and the model's limits.
 */
export function jobOf({ prompt, options }: InferRequest, { info }: Engine, withPreviews: boolean): Job {
  const limits = contractLimits(info);
  const request = generationRequestOf({ prompt, seed: seedOf(options), options, withPreviews });
  const initImage = options?.initImage;
  const settings = resolveSettings({ ...request, initImage }, limits);
  return { request, initImage, settings, work: generationWork(settings, limits), options };
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
  [Scheduler.UNIPC]: "unipc",
  [Scheduler.DPMPP_2M_SDE]: "dpmpp-2m-sde",
  [Scheduler.DPMPP_2M_SDE_KARRAS]: "dpmpp-2m-sde-karras",
};

/** Return the contract's values of a model's schedulers, in the contract's order. */
export function contractSchedulers(supports: (name: SchedulerName) => boolean): Scheduler[] {
  return SchedulerSchema.values
    .map(({ number }): Scheduler => number)
    .filter((value) => {
      const name = schedulers[value];
      return name !== undefined && supports(name);
    });
}

/** Convert settings to the contract's options. */
export function contractSettings({
  width,
  height,
  steps,
  guidanceScale,
  scheduler,
  clipSkip,
  guidanceRescale,
  loras = [],
  strength,
}: Omit<GenerationSettings, "seed">): GenerationOptions {
  return create(GenerationOptionsSchema, {
    width,
    height,
    numInferenceSteps: steps,
    guidanceScale,
    scheduler: contractSchedulers((name) => name === scheduler)[0] ?? Scheduler.UNSPECIFIED,
    ...(clipSkip !== 0 && { clipSkip }),
    ...(guidanceRescale !== 0 && { guidanceRescale }),
    loras: loras.map((lora) => create(LoraSchema, lora)),
    ...(strength !== undefined && { strength }),
  });
}

const formats: Record<ImageFormat, Format> = {
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

/** Build the engine's request, without the image to start from. Absent options stay absent, so that the model's defaults apply. */
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
    clipSkip: options?.clipSkip,
    guidanceRescale: options?.guidanceRescale,
    loras: options?.loras.map(({ name, scale }) => ({ name, scale })),
    strength: options?.strength === undefined ? undefined : decimalOf(options.strength),
  };
}

/** The decimal number that a float of the contract stands for: 0.7, not 0.699999988079071, of which 10 steps would be 6. */
export function decimalOf(float: number): number {
  return Number(float.toPrecision(7));
}

/** Format of an encoded image, and the quality of the lossy ones. */
export interface ImageEncoding {
  readonly format: Format;
  readonly quality: number | undefined;
  /** Texts of a PNG file by keyword. @default none */
  readonly texts?: ReadonlyMap<string, string> | undefined;
}

/** Return the requested encoding. @default PNG */
export function encodingOf(options: GenerationOptions | undefined): ImageEncoding {
  return { format: formats[options?.format ?? ImageFormat.UNSPECIFIED], quality: options?.quality };
}
