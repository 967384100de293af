import type { PaintLimits, SchedulerName, StepLimits } from "./engine.js";
import type { ModelSchedulers } from "./load-schedulers.js";
import type { ModelDescription } from "./model-description.js";
import type { SizeRules } from "./picture-size.js";

/** Those of diffusers' SDXL pipeline. */
const usualSteps = 50;
const usualGuidanceScale = 5;

/** The limits and defaults of a loaded model. */
export function paintLimits(model: ModelDescription, sizes: SizeRules, schedulers: ModelSchedulers): PaintLimits {
  // What the operator wrote comes first, then what the kind of model wants.
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
  };
}
