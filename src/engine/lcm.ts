import * as z from "zod";
import { cumulativeAlphas, noiseScheduleConfig, noiseScheduleOf } from "./noise-schedule.js";
import {
  addNoisePreserving,
  clipSample,
  predictCleanPreserving,
  preservingLevel,
  type Scheduler,
  walkTimesteps,
} from "./scheduler.js";

/** What diffusers' `LCMScheduler` reads from scheduler_config.json, with its defaults; other keys are ignored. */
export const lcmConfig = noiseScheduleConfig
  .extend({
    beta_start: z.number().default(0.00085),
    beta_end: z.number().default(0.012),
    beta_schedule: noiseScheduleConfig.shape.beta_schedule.unwrap().default("scaled_linear"),
    prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
    original_inference_steps: z.int().positive().default(50),
    clip_sample: z.boolean().default(false),
    clip_sample_range: z.number().default(1),
    thresholding: z.literal(false).default(false),
    timestep_scaling: z.number().default(10),
  })
  .refine((config) => config.original_inference_steps <= config.num_train_timesteps, {
    path: ["original_inference_steps"],
    error: "at most num_train_timesteps",
  })
  .refine((config) => !(config.rescale_betas_zero_snr && config.prediction_type === "epsilon"), {
    path: ["prediction_type"],
    error: "v_prediction or sample, because the first latents are nothing but noise",
  });

const round = Math.fround;

/** σ_data of the boundary condition. */
const dataDeviation = 0.5;

/**
 * Multistep sampling of latent consistency models: Luo et al. 2023 (https://arxiv.org/abs/2310.04378), algorithm 3. Every
 * step jumps to the clean latents, and all but the last put fresh noise on them again. Each operation is rounded to float32
 * in the order of diffusers' `LCMScheduler`, which it equals.
 */
export function createLcm(config: z.output<typeof lcmConfig>): Scheduler {
  const alphas = cumulativeAlphas(noiseScheduleOf(config));
  return {
    maximumSteps: config.original_inference_steps,
    begin(start) {
      const timesteps = spaceLcmTimesteps(alphas.length, config.original_inference_steps, start.steps);
      const levelAt = (timestep: number) => preservingLevel(alphas[timestep] ?? Number.NaN);
      return walkTimesteps(start, {
        timesteps,
        addNoise: (latents, noise, index) => addNoisePreserving(latents, noise, levelAt(timesteps[index] ?? 0)),
        advance({ index, timestep, latents, modelOutput }) {
          const level = levelAt(timestep);
          const clean = clipSample(predictCleanPreserving(config.prediction_type, level, latents, modelOutput), config);
          const { skip, out } = boundaryScalings(timestep, config.timestep_scaling);
          const denoised = latents.map((value, i) => round(out * (clean[i] ?? 0)) + round(skip * value));
          const nextTimestep = timesteps[index + 1];
          if (nextTimestep === undefined) {
            return { latents: denoised, predictedClean: denoised };
          }
          const noised = addNoisePreserving(denoised, start.drawNoise(), levelAt(nextTimestep));
          return { latents: noised, predictedClean: denoised };
        },
      });
    },
  };
}

/** As many of the distillation's own timesteps as asked for, evenly by their place in its list, from the noisiest. */
function spaceLcmTimesteps(trainSteps: number, originalSteps: number, steps: number): readonly number[] {
  const skipped = Math.floor(trainSteps / originalSteps);
  return Array.from({ length: steps }, (_, i) => {
    const place = Math.floor(i * (originalSteps / steps));
    return (originalSteps - place) * skipped - 1;
  });
}

/**
 * c_skip and c_out, which make the model's function the identity at timestep 0: Song et al. 2023
 * (https://arxiv.org/abs/2303.01469), appendix C, with timesteps stretched by `scaling`.
 */
function boundaryScalings(timestep: number, scaling: number): { readonly skip: number; readonly out: number } {
  const scaled = round(timestep * round(scaling));
  const data = dataDeviation ** 2;
  const sum = round(round(scaled * scaled) + data);
  return { skip: round(data / sum), out: round(scaled / round(Math.sqrt(sum))) };
}
