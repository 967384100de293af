import type { GenerationSettings } from "./engine.js";

/** Strength of a request with an image and without a strength: that of diffusers' `StableDiffusionXLImg2ImgPipeline`. */
export const defaultStrength = 0.3;

/** Steps that run: all without an image, else the last `steps` × `strength`, rounded down, as diffusers' `get_timesteps` has it. */
export function stepsToRun({ steps, strength }: Pick<GenerationSettings, "steps" | "strength">): number {
  return strength === undefined ? steps : Math.min(Math.trunc(steps * strength), steps);
}

/**
 * Values that a strength can have for so many steps, where its own leaves none to run.
 *
 * @param maximumSteps of the model. More steps are not proposed.
 */
export function describeStrengths(
  { steps, strength }: { readonly steps: number; readonly strength: number },
  maximumSteps: number,
): string {
  const least = Math.ceil(10_000 / steps) / 10_000;
  const enough = stepsFor(strength);
  const more = enough <= maximumSteps ? `, or take at least ${enough} steps` : "";
  return `${strength} of ${describeSteps(steps)} leaves none to run: take a strength from ${least} to 1${more}`;
}

function describeSteps(steps: number): string {
  return steps === 1 ? "1 step" : `${steps} steps`;
}

/** Fewest steps of which one runs. */
function stepsFor(strength: number): number {
  const steps = Math.ceil(1 / strength);
  return stepsToRun({ steps, strength }) > 0 ? steps : steps + 1;
}
