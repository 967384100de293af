import * as z from "zod";
import {
  maximumMultistepSteps,
  multistepConfig,
  type NoiseLevel,
  noiseLevel,
  type SolverStep,
  spaceMultistep,
} from "./multistep-schedule.js";
import { noiseScheduleOf, trainingSigmas } from "./noise-schedule.js";
import { predictCleanPreserving, type SamplingState, type Scheduler } from "./scheduler.js";
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
    begin({ steps, noise }) {
      const { timesteps, sigmas } = spaceMultistep({ config, trainingLevels, usedSteps }, steps);
      const levels = [...sigmas, finalSigma(config, sigmas, trainingLevels)].map(noiseLevel);
      const stepAt = (index: number, latents: Float32Array, led?: Prediction): SamplingState => {
        const [level, next, timestep] = [levels[index], levels[index + 1], timesteps[index]];
        if (level === undefined || next === undefined || timestep === undefined) {
          return { kind: "finished", latents };
        }
        return {
          kind: "step",
          timestep,
          modelInput: latents,
          advance(modelOutput) {
            const clean = predictCleanPreserving(config.prediction_type, level, latents, modelOutput);
            const prediction = config.predict_x0 ? clean : predictNoise(config, level, latents, modelOutput);
            const corrects = led !== undefined && !config.disable_corrector.includes(index - 1);
            const update: Prediction = {
              order: orderOf(config, index, timesteps.length),
              solverType: config.solver_type,
              predictsClean: config.predict_x0,
              history: stepsUpTo({ level, prediction }, led, config),
              next,
              latents: corrects ? updateUniPc({ ...led, corrected: prediction }) : latents,
            };
            return { next: stepAt(index + 1, updateUniPc(update), update), predictedClean: clean };
          },
        };
      };
      return stepAt(0, Float32Array.from(noise));
    },
  };
}

function stepsUpTo(step: SolverStep, led: Prediction | undefined, { solver_order }: Config): Prediction["history"] {
  return [step, ...(led?.history.slice(0, solver_order - 1) ?? [])];
}

/** Order of a step: at most one more than there are steps before it, and lower at the end with `lower_order_final`. */
function orderOf({ solver_order, lower_order_final }: Config, index: number, steps: number): number {
  return Math.min(solver_order, index + 1, lower_order_final ? steps - index : solver_order);
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
