import * as z from "zod";
import { roundHalfToEven } from "./floating-point.js";
import {
  karrasSigmas,
  levelAt,
  noiseScheduleConfig,
  spaceTimesteps,
  timestepOfSigma,
  timestepSpacing,
} from "./noise-schedule.js";
import type { PreservingLevel } from "./scheduler.js";

/*
 * Timesteps and noise levels of diffusers' multistep solvers (`DPMSolverMultistepScheduler`, `UniPCMultistepScheduler`), which
 * work with half the logarithm of the signal-to-noise ratio.
 */

/** Keys of scheduler_config.json that these classes share, with their defaults. */
export const multistepConfig = noiseScheduleConfig.extend({
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  solver_order: z.literal([1, 2, 3]).default(2),
  lower_order_final: z.boolean().default(true),
  thresholding: z.literal(false).default(false),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.literal(false).nullish(),
  use_beta_sigmas: z.literal(false).nullish(),
  use_flow_sigmas: z.literal(false).nullish(),
  sigma_min: z.number().nullish(),
  sigma_max: z.number().nullish(),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
  timestep_spacing: timestepSpacing.default("linspace"),
  steps_offset: z.int().min(0).default(0),
});

type Config = z.output<typeof multistepConfig>;

/** Noise at one step, with λ = ln(α/σ): half the logarithm of the signal-to-noise ratio. */
export interface NoiseLevel extends PreservingLevel {
  readonly lambda: number;
}

/** A step that a solver has made: where it stood, and what the model predicted there. */
export interface SolverStep {
  readonly level: NoiseLevel;
  readonly prediction: Float32Array;
}

const round = Math.fround;

/** From σ of x = x₀ + σ·ε to the form with variance 1. */
function noiseLevel(explodingSigma: number): NoiseLevel {
  const level = round(explodingSigma);
  const alpha = round(1 / round(Math.sqrt(round(round(level * level) + 1))));
  const sigma = round(level * alpha);
  return { alpha, sigma, lambda: round(round(Math.log(alpha)) - round(Math.log(sigma))) };
}

/** Levels by their place: σ of each step, and that after the last. */
export function levelsOf(sigmas: readonly number[]): (index: number) => NoiseLevel {
  const levels = sigmas.map(noiseLevel);
  return (index) => levels[index] ?? noiseLevel(Number.NaN);
}

/** Maximum number of steps. With more, two steps would have the same noise level, and there is no line through them. */
export function maximumMultistepSteps(config: Config, usedSteps: number): number {
  return (config.timestep_spacing === "leading" ? Math.floor(usedSteps / (config.steps_offset + 1)) : usedSteps) - 1;
}

/** Parameters of {@link spaceMultistep}. */
export interface MultistepSpacing {
  readonly config: Config;
  /** Noise level of each training step, rising. */
  readonly trainingLevels: Float32Array;
  /** How many of the training steps are used, from the cleanest. */
  readonly usedSteps: number;
  /** Integer timestep of a Karras level. @default the nearest */
  readonly toWhole?: ((timestep: number) => number) | undefined;
}

/** Timesteps and noise levels σ of as many steps, from the noisiest: `set_timesteps` without the level after the last step. */
export function spaceMultistep(
  { config, trainingLevels, usedSteps, toWhole = roundHalfToEven }: MultistepSpacing,
  steps: number,
): { readonly timesteps: readonly number[]; readonly sigmas: readonly number[] } {
  if (config.use_karras_sigmas === true) {
    const [cleanest = 0, noisiest = 0] = [trainingLevels[0], trainingLevels.at(-1)];
    const sigmas = [...karrasSigmas(config.sigma_min ?? cleanest, config.sigma_max ?? noisiest, steps)];
    return { timesteps: sigmas.map((sigma) => toWhole(timestepOfSigma(sigma, trainingLevels))), sigmas };
  }
  const spacing = { spacing: config.timestep_spacing, stepsOffset: config.steps_offset };
  const bounds = { ...spacing, trainSteps: trainingLevels.length, usedSteps };
  const timesteps =
    config.timestep_spacing === "trailing"
      ? spaceTimesteps({ ...bounds, steps })
      : // The end of the last step counts as one more, at the cleanest level.
        spaceTimesteps({ ...bounds, steps: steps + 1 })
          .slice(0, -1)
          .map(roundHalfToEven);
  return { timesteps, sigmas: timesteps.map((timestep) => levelAt(trainingLevels, timestep)) };
}
