import { create } from "@bufbuild/protobuf";
import type { GenerationSettings } from "../engine/engine.js";
import { GenerationOptionsSchema, Scheduler } from "../gen/throughline/v1/image_pb.js";
import { settingsKeyword, settingsText } from "../image/image-settings.js";
import { contractSettings, decimalOf } from "./job.js";

/** What an image was generated from. */
export interface ImageOrigin {
  readonly prompt: string;
  readonly negativePrompt?: string | undefined;
  readonly settings: GenerationSettings;
  readonly model: string;
}

/**
 * Texts for a PNG file: the settings as JSON, and `parameters` as AUTOMATIC1111's web UI writes it, which image browsers read.
 */
export function imageTexts(origin: ImageOrigin): ReadonlyMap<string, string> {
  const { prompt, negativePrompt, settings } = origin;
  const options = create(GenerationOptionsSchema, {
    ...contractSettings(settings),
    negativePrompt,
    seed: settings.seed,
  });
  return new Map([
    ["parameters", parametersOf(origin, options.scheduler)],
    [settingsKeyword, settingsText(prompt, options)],
  ]);
}

/** Sampler and schedule by the names of AUTOMATIC1111's web UI. */
const samplers: Readonly<Record<Scheduler, readonly [sampler: string, schedule?: string]>> = {
  [Scheduler.UNSPECIFIED]: ["Euler"],
  [Scheduler.EULER_DISCRETE]: ["Euler"],
  [Scheduler.EULER_ANCESTRAL]: ["Euler a"],
  [Scheduler.DPMPP_2M]: ["DPM++ 2M"],
  [Scheduler.DPMPP_2M_KARRAS]: ["DPM++ 2M", "Karras"],
  [Scheduler.DDIM]: ["DDIM"],
  [Scheduler.LCM]: ["LCM"],
  [Scheduler.UNIPC]: ["UniPC"],
  [Scheduler.DPMPP_2M_SDE]: ["DPM++ 2M SDE"],
  [Scheduler.DPMPP_2M_SDE_KARRAS]: ["DPM++ 2M SDE", "Karras"],
};

function parametersOf({ prompt, negativePrompt, settings, model }: ImageOrigin, scheduler: Scheduler): string {
  const [sampler, schedule] = samplers[scheduler];
  const { steps, guidanceScale, seed, width, height, strength } = settings;
  const fields = [
    `Steps: ${steps}`,
    `Sampler: ${sampler}`,
    ...(schedule === undefined ? [] : [`Schedule type: ${schedule}`]),
    `CFG scale: ${decimalOf(guidanceScale)}`,
    `Seed: ${seed}`,
    `Size: ${width}x${height}`,
    `Model: ${model}`,
    ...(strength === undefined ? [] : [`Denoising strength: ${strength}`]),
  ];
  const negative = negativePrompt === undefined ? [] : [`Negative prompt: ${negativePrompt}`];
  return [prompt, ...negative, fields.join(", ")].join("\n");
}
