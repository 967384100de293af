import * as z from "zod";
import {
  levelsOf,
  maximumMultistepSteps,
  multistepConfig,
  type NoiseLevel,
  type SolverStep,
  spaceMultistep,
} from "./multistep-schedule.js";
import { noiseScheduleOf, trainingSigmas } from "./noise-schedule.js";
import { addNoisePreserving, predictCleanPreserving, type Scheduler, walkTimesteps } from "./scheduler.js";
import { type UniPcUpdate, updateUniPc } from "./unipc-update.js";

/** What diffusers' `UniPCMultistepScheduler` reads from scheduler_config.json, with its defaults. */
export const uniPcMultistepConfig = multistepConfig
  .extend({
    predict_x0: z.boolean().default(true),
    // The class takes other solvers' types for its default.
    solver_type: z
      .enum(["bh1", "bh2", "midpoint", "heun", "logrho"])
      .default("bh2")
      .transform((type) => (type === "bh1" ? type : "bh2")),
    disable_corrector: z.array(z.int()).default([]),
    solver_p: z.null().optional(),
    use_dynamic_shifting: z.literal(false).nullish(),
    shift_terminal: z.null().optional(),
  })
  .refine((config) => config.final_sigmas_type !== "zero" || config.predict_x0, {
    path: ["predict_x0"],
    error: 'true, or "final_sigmas_type" "sigma_min", because a prediction of the noise means nothing without noise',
  })
  .refine((config) => config.final_sigmas_type !== "zero" || config.solver_type !== "bh1", {
    path: ["solver_type"],
    error: 'bh2, or "final_sigmas_type" "sigma_min", because B(h) = h is infinite without noise',
  })
  .refine((config) => config.final_sigmas_type !== "zero" || config.lower_order_final || config.solver_order === 1, {
    path: ["lower_order_final"],
    error: 'true, or "final_sigmas_type" "sigma_min", because only the first order can end without noise',
  });

type Config = z.output<typeof uniPcMultistepConfig>;

/** What the corrector goes back to: the update that led to a step. */
type Prediction = Omit<UniPcUpdate, "corrected">;

const round = Math.fround;

/**
 * UniPC: Zhao et al. 2023 (https://arxiv.org/abs/2302.04867). A multistep predictor as in DPM-Solver++, and a corrector that
 * makes the last step again with the model's output at its end, without another run of the model. It equals diffusers'
 * `UniPCMultistepScheduler`.
 */
export function createUniPcMultistep(config: Config): Scheduler {
  const trainingLevels = trainingSigmas(noiseScheduleOf(config));
  const usedSteps = trainingLevels.length;
  return {
    maximumSteps: maximumMultistepSteps(config, usedSteps),
    begin(start) {
      const { timesteps, sigmas } = spaceMultistep({ config, trainingLevels, usedSteps }, start.steps);
      const levelAt = levelsOf([...sigmas, finalSigma(config, sigmas, trainingLevels)]);
      return walkTimesteps<Prediction>(start, {
        timesteps,
        addNoise: (latents, noise, index) => addNoisePreserving(latents, noise, levelAt(index)),
        advance({ index, latents, modelOutput, before: led }) {
          const level = levelAt(index);
          const clean = predictCleanPreserving(config.prediction_type, level, latents, modelOutput);
          const prediction = config.predict_x0 ? clean : predictNoise(config, level, latents, modelOutput);
          const history = stepsUpTo({ level, prediction }, led, config);
          const corrects = led !== undefined && !config.disable_corrector.includes(index - 1);
          const update: Prediction = {
            order: orderOf(config, { steps: history.length, left: timesteps.length - index }),
            solverType: config.solver_type,
            predictsClean: config.predict_x0,
            history,
            next: levelAt(index + 1),
            latents: corrects ? updateUniPc({ ...led, corrected: prediction }) : latents,
          };
          return { latents: updateUniPc(update), predictedClean: clean, memory: update };
        },
      });
    },
  };
}

function stepsUpTo(step: SolverStep, led: Prediction | undefined, { solver_order }: Config): Prediction["history"] {
  return [step, ...(led?.history.slice(0, solver_order - 1) ?? [])];
}

/** Order of a step: at most the steps that ran, this one included, and lower at the end with `lower_order_final`. */
function orderOf(
  { solver_order, lower_order_final }: Config,
  { steps, left }: { readonly steps: number; readonly left: number },
): number {
  return Math.min(solver_order, steps, lower_order_final ? left : solver_order);
}

function finalSigma(config: Config, sigmas: readonly number[], trainingLevels: Float32Array): number {
  if (config.final_sigmas_type === "zero") {
    return 0;
  }
  return (config.use_karras_sigmas === true ? sigmas.at(-1) : trainingLevels[0]) ?? 0;
}

/** ε from the model's output. */
function predictNoise(
  { prediction_type }: Config,
  { alpha, sigma }: NoiseLevel,
  latents: Float32Array,
  modelOutput: Float32Array,
): Float32Array {
  switch (prediction_type) {
    case "epsilon":
      return Float32Array.from(modelOutput);
    case "v_prediction":
      return latents.map((value, i) => round(alpha * (modelOutput[i] ?? 0)) + round(sigma * value));
    case "sample":
      return latents.map((value, i) => round(value - round(alpha * (modelOutput[i] ?? 0))) / sigma);
  }
}
