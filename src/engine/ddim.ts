import * as z from "zod";
import { roundHalfToEven } from "./floating-point.js";
import {
  cumulativeAlphas,
  noiseScheduleConfig,
  noiseScheduleOf,
  spaceTimesteps,
  timestepSpacing,
} from "./noise-schedule.js";
import {
  addNoisePreserving,
  clipSample,
  type PredictionType,
  type PreservingLevel,
  predictCleanPreserving,
  preservingLevel,
  type Scheduler,
  walkTimesteps,
} from "./scheduler.js";

/** What diffusers' `DDIMScheduler` reads from scheduler_config.json, with its defaults; other keys are ignored. */
export const ddimConfig = noiseScheduleConfig
  .extend({
    prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
    clip_sample: z.boolean().default(true),
    clip_sample_range: z.number().default(1),
    set_alpha_to_one: z.boolean().default(true),
    thresholding: z.literal(false).default(false),
    timestep_spacing: timestepSpacing.default("leading"),
    steps_offset: z.int().min(0).default(0),
  })
  .refine(
    (config) =>
      !(config.rescale_betas_zero_snr && config.prediction_type === "epsilon" && config.timestep_spacing !== "leading"),
    { path: ["prediction_type"], error: "v_prediction or sample, because the first latents are nothing but noise" },
  );

const round = Math.fround;

/**
 * Denoising diffusion implicit models: Song et al. 2020 (https://arxiv.org/abs/2010.02502), equation 12 with σ = 0 (η = 0):
 * the predicted x₀ and the predicted noise, mixed again for the next level. What the paper calls α is α² here. Each
 * operation is rounded to float32 in the order of diffusers' `DDIMScheduler`, which it equals.
 */
export function createDdim(config: z.output<typeof ddimConfig>): Scheduler {
  const alphas = cumulativeAlphas(noiseScheduleOf(config));
  const trainSteps = alphas.length;
  const cleanest = config.set_alpha_to_one ? 1 : (alphas[0] ?? 1);
  const levelAt = (timestep: number) => preservingLevel(timestep < 0 ? cleanest : (alphas[timestep] ?? Number.NaN));
  return {
    // With more steps, the offset would lift the first of them above the training steps.
    maximumSteps:
      config.timestep_spacing === "leading" ? Math.floor(trainSteps / (config.steps_offset + 1)) : trainSteps,
    begin(start) {
      const { steps } = start;
      const spacing = { spacing: config.timestep_spacing, stepsOffset: config.steps_offset };
      const timesteps = spaceTimesteps({ ...spacing, trainSteps, steps }).map(roundHalfToEven);
      const distance = Math.floor(trainSteps / steps);
      return walkTimesteps(start, {
        timesteps,
        addNoise: (latents, noise, index) => addNoisePreserving(latents, noise, levelAt(timesteps[index] ?? 0)),
        advance({ timestep, latents, modelOutput }) {
          const now = levelAt(timestep);
          // Whatever the spacing, and so not always the next timestep of the list.
          const next = levelAt(timestep - distance);
          const clean = predictCleanPreserving(config.prediction_type, now, latents, modelOutput);
          const epsilon = predictNoise(config.prediction_type, now, latents, modelOutput);
          const predictedClean = clipSample(clean, config);
          return { latents: addNoisePreserving(predictedClean, epsilon, next), predictedClean };
        },
      });
    },
  };
}

/** ε from what the model puts out; from the unclipped x₀. */
function predictNoise(
  predictionType: PredictionType,
  { alpha, sigma }: PreservingLevel,
  latents: Float32Array,
  modelOutput: Float32Array,
): Float32Array {
  switch (predictionType) {
    case "epsilon":
      return modelOutput;
    case "v_prediction":
      return latents.map((value, i) => round(alpha * (modelOutput[i] ?? 0)) + round(sigma * value));
    case "sample":
      return latents.map((value, i) => round(value - round(alpha * (modelOutput[i] ?? 0))) / sigma);
  }
}
