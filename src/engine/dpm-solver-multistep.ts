import * as z from "zod";
import { updateDpmSolver } from "./dpm-solver-updates.js";
import { roundHalfToEven } from "./floating-point.js";
import {
  levelsOf,
  maximumMultistepSteps,
  multistepConfig,
  type SolverStep,
  spaceMultistep,
} from "./multistep-schedule.js";
import { noiseScheduleOf, trainingSigmas } from "./noise-schedule.js";
import { addNoisePreserving, predictCleanPreserving, type Scheduler, walkTimesteps } from "./scheduler.js";

const keys = multistepConfig.extend({
  algorithm_type: z.enum(["dpmsolver++", "sde-dpmsolver++"]).default("dpmsolver++"),
  // The class takes other solvers' types for its default.
  solver_type: z
    .enum(["midpoint", "heun", "logrho", "bh1", "bh2"])
    .default("midpoint")
    .transform((type) => (type === "heun" ? type : "midpoint")),
  euler_at_final: z.boolean().default(false),
  variance_type: z.null().optional(),
  use_lu_lambdas: z.literal(false).nullish(),
  lambda_min_clipped: z.union([z.number(), z.literal(Number.NEGATIVE_INFINITY)]).default(Number.NEGATIVE_INFINITY),
});

type Config = z.output<typeof keys>;

/** What diffusers' `DPMSolverMultistepScheduler` reads from scheduler_config.json for DPM-Solver++, with its defaults. */
export const dpmSolverMultistepConfig = keys.refine((config) => !addsNoise(config) || !endsNoisier(config), {
  path: ["sigma_min"],
  error: "at least the lowest noise level of the training, because a step towards more noise has no solution",
});

/** Below so many steps, `lower_order_final` lowers the order of the last two. */
const fewSteps = 15;

/**
 * DPM-Solver++: Lu et al. 2022 (https://arxiv.org/abs/2211.01095), algorithm 2. It solves the diffusion ODE in λ, where its
 * linear part is exact, and takes x₀ as a polynomial through the predictions of this step and those before: a line for 2M.
 * With `sde-dpmsolver++` it solves the diffusion SDE, with new noise in each step. It equals diffusers'
 * `DPMSolverMultistepScheduler`.
 */
export function createDpmSolverMultistep(config: Config): Scheduler {
  const trainingLevels = trainingSigmas(noiseScheduleOf(config));
  const usedSteps = countUsedSteps(config, trainingLevels);
  const toWhole = config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfToEven;
  return {
    maximumSteps: maximumMultistepSteps(config, usedSteps),
    begin(start) {
      const { timesteps, sigmas } = spaceMultistep({ config, trainingLevels, usedSteps, toWhole }, start.steps);
      const last = config.final_sigmas_type === "zero" ? 0 : (trainingLevels[0] ?? 0);
      const levelAt = levelsOf([...sigmas, last]);
      return walkTimesteps<readonly SolverStep[]>(start, {
        timesteps,
        addNoise: (latents, noise, index) => addNoisePreserving(latents, noise, levelAt(index)),
        advance({ index, latents, modelOutput, before = [] }) {
          const level = levelAt(index);
          const clean = predictCleanPreserving(config.prediction_type, level, latents, modelOutput);
          const history = [{ level, prediction: clean }, ...before.slice(0, config.solver_order - 1)] as const;
          const moved = updateDpmSolver({
            order: orderOf(config, {
              earlier: history.length - 1,
              left: timesteps.length - index,
              of: timesteps.length,
            }),
            solverType: config.solver_type,
            history,
            next: levelAt(index + 1),
            latents,
            // diffusers draws before the last step too, where nothing is added.
            noise: addsNoise(config) ? start.drawNoise() : undefined,
          });
          return { latents: moved, predictedClean: clean, memory: history };
        },
      });
    },
  };
}

function addsNoise({ algorithm_type }: Pick<Config, "algorithm_type">): boolean {
  return algorithm_type === "sde-dpmsolver++";
}

/** Whether the level after the last step is above the last step's own. */
function endsNoisier(config: Config): boolean {
  const { use_karras_sigmas, final_sigmas_type, sigma_min } = config;
  return (
    use_karras_sigmas === true &&
    final_sigmas_type === "sigma_min" &&
    typeof sigma_min === "number" &&
    sigma_min < (trainingSigmas(noiseScheduleOf(config))[0] ?? 0)
  );
}

/** Order of a step: at most one more than there are steps before it that ran, and lower at the end. */
function orderOf(
  config: Config,
  { earlier, left, of }: { readonly earlier: number; readonly left: number; readonly of: number },
): 1 | 2 | 3 {
  const lowers = config.lower_order_final && of < fewSteps;
  // At σ = 0, λ is infinite and a line through two predictions means nothing.
  const endsInFirst = config.euler_at_final || config.final_sigmas_type === "zero" || lowers;
  if (config.solver_order === 1 || earlier === 0 || (left === 1 && endsInFirst)) {
    return 1;
  }
  return config.solver_order === 2 || earlier === 1 || (left === 2 && lowers) ? 2 : 3;
}

/** λ = −ln σ falls as the training steps get noisier; those where it falls too low are not used. */
function countUsedSteps(config: Config, trainingLevels: Float32Array): number {
  return trainingLevels.filter((sigma) => -Math.log(sigma) >= config.lambda_min_clipped).length;
}
