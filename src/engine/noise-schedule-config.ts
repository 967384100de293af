import { z } from "zod";
import type { NoiseScheduleOptions } from "./noise-schedule.js";

/** The keys of scheduler_config.json that say on which noise levels the model was trained, with most classes' defaults. */
export const noiseScheduleConfig = z.object({
  num_train_timesteps: z.int().min(2).default(1000),
  beta_start: z.number().default(0.0001),
  beta_end: z.number().default(0.02),
  beta_schedule: z.enum(["linear", "scaled_linear", "squaredcos_cap_v2"]).default("linear"),
  trained_betas: z.array(z.number()).nullish(),
  rescale_betas_zero_snr: z.boolean().default(false),
});

/** How timesteps are spread, as every class but LCM has it. */
export const timestepSpacing = z.enum(["linspace", "leading", "trailing"]);

/** The noise schedule that a configuration describes. */
export function noiseScheduleOf(config: z.output<typeof noiseScheduleConfig>): NoiseScheduleOptions {
  return {
    trainSteps: config.num_train_timesteps,
    betaSchedule: config.beta_schedule,
    betaStart: config.beta_start,
    betaEnd: config.beta_end,
    trainedBetas: config.trained_betas ?? undefined,
    zeroTerminalSnr: config.rescale_betas_zero_snr,
  };
}
