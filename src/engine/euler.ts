import * as z from "zod";
import {
  type EulerSchedule,
  noiseScheduleConfig,
  noiseScheduleOf,
  spaceEulerSchedule,
  timestepSpacing,
  trainingSigmas,
} from "./noise-schedule.js";
import {
  addNoiseExploding,
  predictCleanExploding,
  type Scheduler,
  type TimestepWalk,
  walkTimesteps,
} from "./scheduler.js";

/** What diffusers' `EulerDiscreteScheduler` reads from scheduler_config.json, with its defaults; other keys are ignored. */
export const eulerDiscreteConfig = noiseScheduleConfig.extend({
  prediction_type: z.enum(["epsilon", "v_prediction", "sample", "original_sample"]).default("epsilon"),
  interpolation_type: z.literal("linear").default("linear"),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.literal(false).nullish(),
  use_beta_sigmas: z.literal(false).nullish(),
  sigma_min: z.number().nullish(),
  sigma_max: z.number().nullish(),
  timestep_spacing: timestepSpacing.default("linspace"),
  timestep_type: z.literal("discrete").default("discrete"),
  steps_offset: z.int().default(0),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
});

export type EulerDiscreteConfig = z.output<typeof eulerDiscreteConfig>;

const round = Math.fround;
const square = (value: number): number => round(value * value);

/**
 * Euler's method on the probability-flow ODE: Karras et al. 2022 (https://arxiv.org/abs/2206.00364), algorithm 2 without
 * churn. Each operation is rounded to float32 in the order of diffusers' `EulerDiscreteScheduler`, which it equals.
 */
export function createEulerDiscrete(config: EulerDiscreteConfig): Scheduler {
  const levels = trainingSigmas(noiseScheduleOf(config));
  const predictionType = config.prediction_type === "original_sample" ? "sample" : config.prediction_type;
  return {
    maximumSteps: levels.length,
    begin(start) {
      const { sigmas, ...schedule } = eulerSchedule(config, start.steps, levels);
      return walkTimesteps(start, {
        ...schedule,
        ...explodingForm(sigmas),
        advance({ index, latents, modelOutput }) {
          const [sigma = 0, nextSigma = 0] = [sigmas[index], sigmas[index + 1]];
          const predictedClean = predictCleanExploding(predictionType, sigma, latents, modelOutput);
          const distance = round(nextSigma - sigma);
          const moved = latents.map((value, i) => {
            const derivative = round(round(value - (predictedClean[i] ?? 0)) / sigma);
            return value + round(derivative * distance);
          });
          return { latents: moved, predictedClean };
        },
      });
    },
  };
}

/** How latents x₀ + σ·ε get their noise, and how the model takes them: divided by √(σ² + 1). */
function explodingForm(sigmas: Float32Array): Pick<TimestepWalk<undefined>, "addNoise" | "toModelInput"> {
  return {
    addNoise: (latents, noise, index) => addNoiseExploding(latents, noise, sigmas[index] ?? 0),
    toModelInput(latents, index) {
      const inputScale = round(Math.sqrt(round(square(sigmas[index] ?? 0) + 1)));
      return latents.map((value) => value / inputScale);
    },
  };
}

/** Timesteps and noise levels for so many steps. */
export function eulerSchedule(
  config: EulerDiscreteConfig,
  steps: number,
  levels: Float32Array = trainingSigmas(noiseScheduleOf(config)),
): EulerSchedule {
  const options = {
    levels,
    spacing: config.timestep_spacing,
    stepsOffset: config.steps_offset,
    finalSigma: config.final_sigmas_type === "zero" ? 0 : (levels[0] ?? 0),
    karras:
      config.use_karras_sigmas === true
        ? { minimum: config.sigma_min ?? undefined, maximum: config.sigma_max ?? undefined }
        : undefined,
  };
  return spaceEulerSchedule(options, steps);
}

/**
 * What diffusers' `EulerAncestralDiscreteScheduler` reads from scheduler_config.json, with its defaults; other keys, such as
 * `use_karras_sigmas` and `final_sigmas_type`, are ignored.
 */
export const eulerAncestralConfig = noiseScheduleConfig.extend({
  prediction_type: z.enum(["epsilon", "v_prediction"]).default("epsilon"),
  timestep_spacing: timestepSpacing.default("linspace"),
  steps_offset: z.int().default(0),
});

/**
 * Euler's method in steps that go below the next noise level, to σ_down, and come up to it again with fresh noise of
 * deviation σ_up, where σ_down² + σ_up² is the next level's variance: the ancestral sampling of DDPM
 * (https://arxiv.org/abs/2006.11239) in the form of k-diffusion's `sample_euler_ancestral` with η = 1
 * (https://github.com/crowsonkb/k-diffusion). Each operation is rounded to float32 in the order of diffusers'
 * `EulerAncestralDiscreteScheduler`, which it equals.
 */
export function createEulerAncestral(config: z.output<typeof eulerAncestralConfig>): Scheduler {
  const levels = trainingSigmas(noiseScheduleOf(config));
  const options = { levels, spacing: config.timestep_spacing, stepsOffset: config.steps_offset, finalSigma: 0 };
  return {
    maximumSteps: levels.length,
    begin(start) {
      const { sigmas, ...schedule } = spaceEulerSchedule(options, start.steps);
      return walkTimesteps(start, {
        ...schedule,
        ...explodingForm(sigmas),
        advance({ index, latents, modelOutput }) {
          const [sigma = 0, nextSigma = 0] = [sigmas[index], sigmas[index + 1]];
          const predictedClean = predictCleanExploding(config.prediction_type, sigma, latents, modelOutput);
          const { up, down } = splitLevel(sigma, nextSigma);
          const distance = round(down - sigma);
          // diffusers draws after the last step too, where nothing is added; so the generator is left in the same state.
          const fresh = start.drawNoise();
          const moved = latents.map((value, i) => {
            const derivative = round(round(value - (predictedClean[i] ?? 0)) / sigma);
            return round(value + round(derivative * distance)) + round((fresh[i] ?? 0) * up);
          });
          return { latents: moved, predictedClean };
        },
      });
    },
  };
}

/** σ_up² = σ_n² (σ² − σ_n²) / σ², σ_down² = σ_n² − σ_up². */
function splitLevel(sigma: number, nextSigma: number): { readonly up: number; readonly down: number } {
  const next = square(nextSigma);
  const now = square(sigma);
  const up = round(Math.sqrt(round(round(next * round(now - next)) / now)));
  return { up, down: round(Math.sqrt(round(next - square(up)))) };
}
