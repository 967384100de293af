import type { PaintLimits, PaintRequest, PaintSettings } from "./engine.js";
import { PaintError } from "./paint-error.js";
import { describeRule, fitsRule } from "./picture-size.js";

/**
 * Fills in the model's defaults. It needs no model, only its limits, so a request can be checked before an engine is free for it.
 *
 * @throws PaintError `unsupported`, naming the field and what it can be, when the model cannot take the request.
 */
export function resolveSettings(request: PaintRequest, limits: PaintLimits): PaintSettings {
  const { sizes, schedulers, ownScheduler } = limits;
  const { width = sizes.width.default, height = sizes.height.default, seed, scheduler = ownScheduler } = request;
  for (const [field, length] of [
    ["width", width],
    ["height", height],
  ] as const) {
    if (!fitsRule(length, sizes[field])) {
      throw unsupported(field, describeRule(sizes[field]));
    }
  }
  const stepLimits = schedulers[scheduler];
  if (stepLimits === undefined) {
    const reason = "that algorithm does not fit this model's configuration; an absent one means the model's own";
    throw new PaintError("unsupported", reason, { field: "scheduler" });
  }
  const { maximumSteps, defaultSteps } = stepLimits;
  const steps = request.steps ?? defaultSteps;
  if (!Number.isInteger(steps) || steps < 1 || steps > maximumSteps) {
    throw unsupported("steps", `a whole number from 1 to ${maximumSteps}`);
  }
  const guidanceScale = request.guidanceScale ?? limits.defaultGuidanceScale;
  if (!Number.isFinite(guidanceScale)) {
    throw unsupported("guidanceScale", "a finite number");
  }
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
    throw unsupported("seed", "a whole number from 0 to 4294967295");
  }
  return { width, height, steps, guidanceScale, seed, scheduler };
}

/** Whether the UNet is evaluated a second time in each step, without the prompt. */
export function needsSecondRun({ guidanceScale }: Pick<PaintSettings, "guidanceScale">, limits: PaintLimits): boolean {
  return guidanceScale > 1 && limits.guidance === "second-run";
}

function unsupported(field: keyof PaintRequest, values: string): PaintError {
  return new PaintError("unsupported", `this model takes ${values}`, { field });
}
