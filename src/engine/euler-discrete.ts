import { z } from "zod";
import { karrasSigmas, timestepOfSigma } from "./karras-sigmas.js";
import { trainingSigmas } from "./noise-schedule.js";
import type { SamplingState, Scheduler } from "./scheduler.js";
import { spaceTimesteps } from "./timestep-spacing.js";

/** What diffusers' `EulerDiscreteScheduler` reads from scheduler_config.json, with its defaults; other keys are ignored. */
export const eulerDiscreteConfig = z.object({
  num_train_timesteps: z.int().min(2).default(1000),
  beta_start: z.number().default(0.0001),
  beta_end: z.number().default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  trained_betas: z.array(z.number()).nullish(),
  prediction_type: z.enum(["epsilon", "v_prediction", "sample", "original_sample"]).default("epsilon"),
  interpolation_type: z.literal("linear").default("linear"),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.literal(false).nullish(),
  use_beta_sigmas: z.literal(false).nullish(),
  sigma_min: z.number().nullish(),
  sigma_max: z.number().nullish(),
  timestep_spacing: z.enum(["linspace", "leading", "trailing"]).default("linspace"),
  timestep_type: z.literal("discrete").default("discrete"),
  steps_offset: z.int().default(0),
  rescale_betas_zero_snr: z.boolean().default(false),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
});

export type EulerDiscreteConfig = z.output<typeof eulerDiscreteConfig>;

/** The way from noise to picture: one timestep and one noise level per step, and the level after the last. */
export interface EulerSchedule {
  readonly timesteps: Float32Array;
  /** One longer than `timesteps`. */
  readonly sigmas: Float32Array;
  /** What standard normal noise is multiplied by at the start. */
  readonly initialNoiseSigma: number;
}

const round = Math.fround;

/**
 * Euler's method on the probability-flow ODE: Karras et al. 2022 (https://arxiv.org/abs/2206.00364), algorithm 2 without
 * churn. Each operation is rounded to float32 in the order of diffusers' `EulerDiscreteScheduler`, which it equals.
 */
export function createEulerDiscrete(config: EulerDiscreteConfig): Scheduler {
  const levels = trainingLevels(config);
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
            const predictedClean = predictClean(config.prediction_type, sigma, latents, modelOutput);
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

/** Timesteps and noise levels for so many steps: diffusers `set_timesteps`, and `init_noise_sigma` after it. */
export function eulerSchedule(
  config: EulerDiscreteConfig,
  steps: number,
  levels: Float32Array = trainingLevels(config),
): EulerSchedule {
  const spaced = spaceTimesteps({
    spacing: config.timestep_spacing,
    stepsOffset: config.steps_offset,
    trainSteps: levels.length,
    steps,
  });
  const interpolated = Array.from(spaced, (timestep) => interpolate(levels, timestep));
  const last = config.final_sigmas_type === "zero" ? 0 : (levels[0] ?? 0);
  let sigmas: Iterable<number> = interpolated;
  let timesteps = spaced;
  if (config.use_karras_sigmas === true) {
    const minimum = config.sigma_min ?? interpolated.at(-1) ?? 0;
    const maximum = config.sigma_max ?? interpolated[0] ?? 0;
    const karras = karrasSigmas(minimum, maximum, steps);
    sigmas = karras;
    timesteps = Float32Array.from(karras, (sigma) => timestepOfSigma(sigma, levels));
  }
  const allSigmas = Float32Array.from([...sigmas, last]);
  const highest = allSigmas.reduce((maximum, sigma) => Math.max(maximum, sigma));
  return {
    timesteps,
    sigmas: allSigmas,
    initialNoiseSigma:
      config.timestep_spacing === "leading" ? round(Math.sqrt(round(round(highest * highest) + 1))) : highest,
  };
}

function trainingLevels(config: EulerDiscreteConfig): Float32Array {
  return trainingSigmas({
    trainSteps: config.num_train_timesteps,
    betaSchedule: config.beta_schedule,
    betaStart: config.beta_start,
    betaEnd: config.beta_end,
    trainedBetas: config.trained_betas ?? undefined,
    zeroTerminalSnr: config.rescale_betas_zero_snr,
  });
}

/** `numpy.interp` over the indices of a table. */
function interpolate(table: Float32Array, position: number): number {
  const low = Math.min(Math.max(Math.floor(position), 0), table.length - 1);
  const start = table[low] ?? 0;
  const end = table[low + 1] ?? start;
  return Math.max(position - low, 0) * (end - start) + start;
}

/** x₀ from what the model puts out, as its `prediction_type` says. */
function predictClean(
  predictionType: EulerDiscreteConfig["prediction_type"],
  sigma: number,
  latents: Float32Array,
  modelOutput: Float32Array,
): Float32Array {
  switch (predictionType) {
    case "epsilon":
      return latents.map((value, i) => value - round(sigma * (modelOutput[i] ?? 0)));
    case "v_prediction": {
      const variance = round(round(sigma * sigma) + 1);
      const outputScale = round(-sigma / round(Math.sqrt(variance)));
      return latents.map((value, i) => round((modelOutput[i] ?? 0) * outputScale) + round(value / variance));
    }
    case "sample":
    case "original_sample":
      return Float32Array.from(modelOutput);
  }
}
