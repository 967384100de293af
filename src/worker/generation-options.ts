import type { PaintRequest, SchedulerName } from "../engine/engine.js";
import { Delivery, type GenerationOptions, ImageFormat, Scheduler } from "../gen/throughline/v1/image_pb.js";
import type { ImageFormat as Encoding } from "../image/image-format.js";

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

/** The engine's request for a prompt with options; what is absent stays absent, so that the model's own default holds. */
export function paintRequestOf(prompt: string, seed: number, options: GenerationOptions | undefined): PaintRequest {
  return {
    prompt,
    seed,
    negativePrompt: options?.negativePrompt,
    width: options?.width,
    height: options?.height,
    steps: options?.numInferenceSteps,
    guidanceScale: options?.guidanceScale,
    previewInterval: options?.previewInterval,
    scheduler: schedulers[options?.scheduler ?? Scheduler.UNSPECIFIED],
  };
}

/** The encoding that the options ask for; PNG unless they do. */
export function encodingOf(options: GenerationOptions | undefined): Encoding {
  return encodings[options?.format ?? ImageFormat.UNSPECIFIED];
}

/** Whether the whole picture is wanted in the response. */
export function wantsDataUri(options: GenerationOptions | undefined): boolean {
  return options?.delivery === Delivery.DATA_URI;
}
