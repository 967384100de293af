import { z } from "zod";
import { type EulerSchedule, spaceEulerSchedule } from "./euler-schedule.js";
import { trainingSigmas } from "./noise-schedule.js";
import { noiseScheduleConfig, noiseScheduleOf, timestepSpacing } from "./noise-schedule-config.js";
import { predictCleanExploding } from "./predict-clean.js";
import type { SamplingState, Scheduler } from "./scheduler.js";

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

/**
 * Euler's method on the probability-flow ODE: Karras et al. 2022 (https://arxiv.org/abs/2206.00364), algorithm 2 without
 * churn. Each operation is rounded to float32 in the order of diffusers' `EulerDiscreteScheduler`, which it equals.
 */
export function createEulerDiscrete(config: EulerDiscreteConfig): Scheduler {
  const levels = trainingSigmas(noiseScheduleOf(config));
  const predictionType = config.prediction_type === "original_sample" ? "sample" : config.prediction_type;
  return {
    maximumSteps: levels.length,
    begin({ steps, noise }) {
      const schedule = eulerSchedule(config, steps, levels);
      const stepAt = (index: number, latents: Float32Array): SamplingState => {
        const [sigma, nextSigma, timestep] = [
          schedule.sigmas[index],
          schedule.sigmas[index + 1],
          schedule.timesteps[index],
        ];
        if (sigma === undefined || nextSigma === undefined || timestep === undefined) {
          return { kind: "finished", latents };
        }
        const inputScale = round(Math.sqrt(round(round(sigma * sigma) + 1)));
        return {
          kind: "step",
          timestep,
          modelInput: latents.map((value) => value / inputScale),
          advance(modelOutput) {
            const predictedClean = predictCleanExploding(predictionType, sigma, latents, modelOutput);
            const distance = round(nextSigma - sigma);
            const moved = latents.map((value, i) => {
              const derivative = round(round(value - (predictedClean[i] ?? 0)) / sigma);
              return value + round(derivative * distance);
            });
            return { next: stepAt(index + 1, moved), predictedClean };
          },
        };
      };
      return stepAt(
        0,
        noise.map((value) => value * schedule.initialNoiseSigma),
      );
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
