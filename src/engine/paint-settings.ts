import type { PaintRequest, PaintSettings, SchedulerName } from "./engine.js";
import type { ThroughlineConfig } from "./model-config.js";
import { PaintError } from "./paint-error.js";
import { describeRule, fitsRule, type SizeRules } from "./picture-size.js";
import type { Scheduler } from "./scheduler.js";

/** What a model can do, for choosing and checking settings. */
export interface PaintLimits {
  readonly sizes: SizeRules;
  readonly throughline: ThroughlineConfig;
  /** The scheduler of the model's folder. */
  readonly ownScheduler: SchedulerName;
  readonly schedulers: ReadonlyMap<SchedulerName, Scheduler>;
}

export interface ResolvedRequest {
  readonly settings: PaintSettings;
  /** The scheduler that the settings name. */
  readonly sampler: Scheduler;
}

/** Those of diffusers' SDXL pipeline. */
const usualSteps = 50;
const usualGuidanceScale = 5;

/**
 * Fills in the model's defaults.
 *
 * @throws PaintError `unsupported`, naming the field and what it can be, when the model cannot take the request.
 */
export function resolveSettings(request: PaintRequest, limits: PaintLimits): ResolvedRequest {
  const { sizes, throughline, ownScheduler, schedulers } = limits;
  const { width = sizes.width.default, height = sizes.height.default, seed, scheduler = ownScheduler } = request;
  for (const [field, length] of [
    ["width", width],
    ["height", height],
  ] as const) {
    if (!fitsRule(length, sizes[field])) {
      throw unsupported(field, describeRule(sizes[field]));
    }
  }
  const sampler = schedulers.get(scheduler);
  if (sampler === undefined) {
    const reason = "that algorithm does not fit this model's configuration; an absent one means the model's own";
    throw new PaintError("unsupported", reason, { field: "scheduler" });
  }
  const steps = request.steps ?? Math.min(throughline.defaultSteps ?? usualSteps, sampler.maximumSteps);
  if (!Number.isInteger(steps) || steps < 1 || steps > sampler.maximumSteps) {
    throw unsupported("steps", `a whole number from 1 to ${sampler.maximumSteps}`);
  }
  const guidanceScale = request.guidanceScale ?? throughline.defaultGuidanceScale ?? usualGuidanceScale;
  if (!Number.isFinite(guidanceScale)) {
    throw unsupported("guidanceScale", "a finite number");
  }
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
    throw unsupported("seed", "a whole number from 0 to 4294967295");
  }
  return { settings: { width, height, steps, guidanceScale, seed, scheduler }, sampler };
}

function unsupported(field: keyof PaintRequest, values: string): PaintError {
  return new PaintError("unsupported", `this model takes ${values}`, { field });
}
