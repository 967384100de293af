import {
  type FieldViolation,
  GenerationError,
  type GenerationLimits,
  type GenerationRequest,
  type GenerationSettings,
  type ScaledLora,
  type SchedulerName,
  type SideRule,
  type SizeRules,
  type StepLimits,
} from "./engine.js";
import { resolveLoras } from "./lora-choice.js";
import type { ModelDescription } from "./model-description.js";
import type { ModelSchedulers } from "./schedulers.js";
import type { InputSpec } from "./sessions.js";
import { defaultStrength, describeStrengths, stepsToRun } from "./strength.js";

/** A request without the pixels of its image: only whether it has one counts. */
export type SettingsRequest = Omit<GenerationRequest, "initImage"> & { readonly initImage?: unknown };

/**
 * Fills in the model's defaults. It needs no model, only its limits, so a request can be checked before an engine is free for it.
 *
 * @throws GenerationError `unsupported`, naming each wrong field and the values that it can have, when the model cannot take the request.
 */
export function resolveSettings(request: SettingsRequest, limits: GenerationLimits): GenerationSettings {
  const { sizes, schedulers, ownScheduler } = limits;
  const { width = sizes.width.default, height = sizes.height.default, seed, scheduler = ownScheduler } = request;
  const { maximumSteps, defaultSteps } = schedulers[scheduler] ?? { maximumSteps: undefined, defaultSteps: 1 };
  const { steps = defaultSteps, guidanceScale = limits.defaultGuidanceScale } = request;
  const { clipSkip = 0, guidanceRescale = 0 } = request;
  const hasImage = request.initImage !== undefined;
  const strength = request.strength ?? (hasImage ? defaultStrength : undefined);
  const violations: FieldViolation[] = [];
  const violate = (field: FieldViolation["field"], values: string) =>
    violations.push({ field, message: `this model takes ${values}` });
  for (const [field, length] of [
    ["width", width],
    ["height", height],
  ] as const) {
    if (!fitsRule(length, sizes[field])) {
      violate(field, describeRule(sizes[field]));
    }
  }
  if (maximumSteps === undefined) {
    const message = "this model's configuration does not fit that scheduler; leave it out for the model's own";
    violations.push({ field: "scheduler", message });
  } else if (!Number.isInteger(steps) || steps < 1 || steps > maximumSteps) {
    violate("steps", `a whole number from 1 to ${maximumSteps}`);
  }
  if (hasImage && limits.imageToImage !== true) {
    const message =
      "this model has no VAE encoder, so it cannot start from an image; leave it out, or use a model with one";
    violations.push({ field: "initImage", message });
  }
  if (strength !== undefined) {
    if (!hasImage) {
      violations.push({
        field: "strength",
        message: "a strength needs an image to start from: add one, or leave the strength out",
      });
    } else if (!(strength >= 0 && strength <= 1)) {
      violate("strength", "a number from 0 to 1");
    } else if (limits.imageToImage === true && steps >= 1 && stepsToRun({ steps, strength }) === 0) {
      violations.push({ field: "strength", message: describeStrengths({ steps, strength }, maximumSteps ?? steps) });
    }
  }
  if (!Number.isFinite(guidanceScale)) {
    violate("guidanceScale", "a finite number");
  }
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
    violations.push({
      field: "seed",
      message: "a seed is a whole number from 0 to 4294967295; leave it out for a random one",
    });
  }
  if (!Number.isInteger(clipSkip) || clipSkip < 0 || clipSkip > limits.maximumClipSkip) {
    const { maximumClipSkip: maximum } = limits;
    violate(
      "clipSkip",
      maximum === 0 ? "0: its text encoders have no earlier layer" : `a whole number from 0 to ${maximum}`,
    );
  }
  if (!(guidanceRescale >= 0 && guidanceRescale <= 1)) {
    violate("guidanceRescale", "a number from 0 to 1");
  }
  const loras = resolveLoras(request.loras ?? [], limits.loras, violations);
  if (violations.length > 0) {
    const message = violations.map(({ field, place = "", message }) => `${field}${place}: ${message}`).join("; ");
    throw new GenerationError("unsupported", message, { violations });
  }
  const settings = { width, height, steps, guidanceScale, seed, scheduler, clipSkip, guidanceRescale };
  return { ...settings, ...(loras.length > 0 && { loras }), ...(strength !== undefined && { strength }) };
}

/** Whether the UNet is evaluated a second time in each step, without the prompt. */
export function needsSecondRun(
  { guidanceScale }: Pick<GenerationSettings, "guidanceScale">,
  limits: GenerationLimits,
): boolean {
  return guidanceScale > 1 && limits.guidance === "second-run";
}

/**
 * Sizes that a model can generate. A latent is as many pixels as the VAE has doublings; the UNet halves the latents as often as
 * it has levels to go down, and an exported graph can only double back what divides evenly.
 *
 * The largest side is `maximumSize` of throughline.json, else twice the native one: memory grows with the fourth power of a
 * side, and a request must not be able to take it all. A graph exported for one size takes that one only.
 *
 * @param sample the UNet's input of the latents: [batch, channels, height, width].
 */
export function sizeRules({ unet, vae, throughline }: ModelDescription, sample: InputSpec | undefined): SizeRules {
  const vaeFactor = 2 ** (vae.block_out_channels.length - 1);
  const step = vaeFactor * 2 ** (unet.block_out_channels.length - 1);
  const native = unet.sample_size * vaeFactor;
  const side = (axis: 2 | 3, ownDefault: number | undefined): SideRule => {
    const fixed = sample?.shape[axis];
    if (typeof fixed === "number") {
      const length = fixed * vaeFactor;
      return { step, minimum: length, maximum: length, default: length };
    }
    const most = throughline.maximumSize ?? 2 * native;
    return { step, minimum: step, maximum: most - (most % step), default: ownDefault ?? native };
  };
  return { width: side(3, throughline.defaultWidth), height: side(2, throughline.defaultHeight), vaeFactor };
}

export function fitsRule(length: number, { step, minimum, maximum }: SideRule): boolean {
  return length % step === 0 && length >= minimum && length <= maximum;
}

/** Range of requests. */
export interface RequestRange {
  /** Pixels. */
  readonly minimumSide: number;
  /** Pixels. */
  readonly maximumSide: number;
  readonly maximumSteps: number;
  readonly maximumClipSkip: number;
}

/** Narrows the limits to a range. The model's own defaults stay possible. */
export function narrowLimits(limits: GenerationLimits, range: RequestRange): GenerationLimits {
  const narrow = (rule: SideRule): SideRule => {
    const least = Math.ceil(range.minimumSide / rule.step) * rule.step;
    const most = Math.floor(range.maximumSide / rule.step) * rule.step;
    return {
      ...rule,
      minimum: Math.min(Math.max(rule.minimum, least), rule.default),
      maximum: Math.max(Math.min(rule.maximum, most), rule.default),
    };
  };
  const { width, height, vaeFactor } = limits.sizes;
  const schedulers: GenerationLimits["schedulers"] = Object.fromEntries(
    Object.entries(limits.schedulers).map(([name, { defaultSteps, maximumSteps }]) => [
      name,
      { defaultSteps, maximumSteps: Math.max(Math.min(maximumSteps, range.maximumSteps), defaultSteps) },
    ]),
  );
  const maximumClipSkip = Math.min(limits.maximumClipSkip, range.maximumClipSkip);
  return { ...limits, schedulers, maximumClipSkip, sizes: { width: narrow(width), height: narrow(height), vaeFactor } };
}

/** The rule as text, such as `a multiple of 32 from 64 to 2048`. */
export function describeRule({ step, minimum, maximum }: SideRule): string {
  return minimum === maximum ? `${minimum}` : `a multiple of ${step} from ${minimum} to ${maximum}`;
}

/** Those of diffusers' SDXL pipeline. */
const usualSteps = 50;
const usualGuidanceScale = 5;

/** What of a loaded model its limits follow from. */
export interface LimitsOf extends Pick<GenerationLimits, "sizes" | "maximumClipSkip" | "imageToImage"> {
  readonly schedulers: ModelSchedulers;
  readonly loras: readonly ScaledLora[] | undefined;
}

/** The limits and defaults of a loaded model. */
export function generationLimits(
  model: ModelDescription,
  { sizes, schedulers, maximumClipSkip, imageToImage, loras }: LimitsOf,
): GenerationLimits {
  // The operator's values come first, then those of the kind of model.
  const { distilled } = model;
  const { defaultSteps = distilled?.steps ?? usualSteps } = model.throughline;
  const { defaultGuidanceScale = distilled?.guidanceScale ?? usualGuidanceScale } = model.throughline;
  const steps: Partial<Record<SchedulerName, StepLimits>> = {};
  for (const [name, { maximumSteps }] of schedulers.byName) {
    steps[name] = { maximumSteps, defaultSteps: Math.min(defaultSteps, maximumSteps) };
  }
  return {
    sizes,
    ownScheduler: schedulers.own,
    schedulers: steps,
    defaultGuidanceScale,
    guidance: model.unet.time_cond_proj_dim == null ? "second-run" : "embedded",
    maximumClipSkip,
    imageToImage,
    ...(loras !== undefined && { loras: loras.map(({ name, scale }) => ({ name, scale })) }),
  };
}
