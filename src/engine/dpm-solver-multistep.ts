import * as z from "zod";
import { roundHalfToEven } from "./floating-point.js";
import {
  karrasSigmas,
  levelAt,
  noiseScheduleConfig,
  noiseScheduleOf,
  spaceTimesteps,
  timestepOfSigma,
  timestepSpacing,
  trainingSigmas,
} from "./noise-schedule.js";
import { type PreservingLevel, predictCleanPreserving, type SamplingState, type Scheduler } from "./scheduler.js";

/** What diffusers' `DPMSolverMultistepScheduler` reads from scheduler_config.json for DPM-Solver++ 2M, with its defaults. */
export const dpmSolverMultistepConfig = noiseScheduleConfig.extend({
  prediction_type: z.enum(["epsilon", "v_prediction", "sample"]).default("epsilon"),
  algorithm_type: z.literal("dpmsolver++").default("dpmsolver++"),
  solver_order: z.literal(2).default(2),
  solver_type: z.enum(["midpoint", "heun"]).default("midpoint"),
  lower_order_final: z.boolean().default(true),
  euler_at_final: z.boolean().default(false),
  thresholding: z.literal(false).default(false),
  variance_type: z.null().optional(),
  use_karras_sigmas: z.boolean().nullish(),
  use_exponential_sigmas: z.literal(false).nullish(),
  use_beta_sigmas: z.literal(false).nullish(),
  use_lu_lambdas: z.literal(false).nullish(),
  use_flow_sigmas: z.literal(false).nullish(),
  // Not the class's own, but it obeys them where another class's configuration has them.
  sigma_min: z.number().nullish(),
  sigma_max: z.number().nullish(),
  final_sigmas_type: z.enum(["zero", "sigma_min"]).default("zero"),
  lambda_min_clipped: z.union([z.number(), z.literal(Number.NEGATIVE_INFINITY)]).default(Number.NEGATIVE_INFINITY),
  timestep_spacing: timestepSpacing.default("linspace"),
  steps_offset: z.int().min(0).default(0),
});

type Config = z.output<typeof dpmSolverMultistepConfig>;

/** Noise at one step, with λ = ln(α/σ): half the logarithm of the signal-to-noise ratio. */
interface NoiseLevel extends PreservingLevel {
  readonly lambda: number;
}

const round = Math.fround;

/** Below so many steps, `lower_order_final` makes the last step one of the first order. */
const fewSteps = 15;

/**
 * DPM-Solver++(2M): Lu et al. 2022 (https://arxiv.org/abs/2211.01095), algorithm 2. It solves the diffusion ODE in λ, where
 * its linear part is exact, and takes x₀ as a line through the predictions of this step and the one before. Each operation is
 * rounded to float32 in the order of diffusers' `DPMSolverMultistepScheduler`, which it equals.
 */
export function createDpmSolverMultistep(config: Config): Scheduler {
  const trainingLevels = trainingSigmas(noiseScheduleOf(config));
  return {
    maximumSteps: maximumSteps(config, trainingLevels),
    begin({ steps, noise }) {
      const { timesteps, levels } = schedule(config, steps, trainingLevels);
      const stepAt = (index: number, latents: Float32Array, before?: Float32Array): SamplingState => {
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
            const last = index === timesteps.length - 1;
            const levelBefore = levels[index - 1];
            const firstOrder =
              before === undefined || levelBefore === undefined || (last && endsInFirstOrder(config, timesteps.length));
            const moved = firstOrder
              ? moveFirstOrder(level, next, latents, clean)
              : moveSecondOrder(config.solver_type, [levelBefore, level, next], latents, [before, clean]);
            return { next: stepAt(index + 1, moved, clean), predictedClean: clean };
          },
        };
      };
      return stepAt(0, Float32Array.from(noise));
    },
  };
}

function endsInFirstOrder(config: Config, steps: number): boolean {
  // At σ = 0, λ is infinite and a line through two predictions means nothing.
  return config.euler_at_final || config.final_sigmas_type === "zero" || (config.lower_order_final && steps < fewSteps);
}

/** Exact where x₀ stays as it is, and equal to a step of DDIM: x' = (σ'/σ)·x − α'·(e^−h − 1)·x₀ with h = λ' − λ. */
function moveFirstOrder(now: NoiseLevel, next: NoiseLevel, latents: Float32Array, clean: Float32Array): Float32Array {
  const kept = round(next.sigma / now.sigma);
  const added = cleanFactor(now, next);
  return latents.map((value, i) => round(kept * value) - round(added * (clean[i] ?? 0)));
}

/** The same with the slope D₁ = (x₀ − x₀ before) / r, r = (λ − λ before) / h, weighted by the solver type. */
function moveSecondOrder(
  solverType: Config["solver_type"],
  [before, now, next]: readonly [NoiseLevel, NoiseLevel, NoiseLevel],
  latents: Float32Array,
  [cleanBefore, clean]: readonly [Float32Array, Float32Array],
): Float32Array {
  const h = round(next.lambda - now.lambda);
  const slopeScale = round(1 / round(round(now.lambda - before.lambda) / h));
  const kept = round(next.sigma / now.sigma);
  const added = cleanFactor(now, next);
  const slopeFactor =
    solverType === "midpoint"
      ? round(0.5 * added)
      : -round(next.alpha * round(round(round(round(Math.exp(-h)) - 1) / h) + 1));
  return latents.map((value, i) => {
    const x0 = clean[i] ?? 0;
    const slope = round(slopeScale * round(x0 - (cleanBefore[i] ?? 0)));
    return round(round(kept * value) - round(added * x0)) - round(slopeFactor * slope);
  });
}

/** α'·(e^−h − 1). */
function cleanFactor(now: NoiseLevel, next: NoiseLevel): number {
  return round(next.alpha * round(round(Math.exp(-round(next.lambda - now.lambda))) - 1));
}

/** λ = −ln σ falls as the training steps get noisier; those where it falls too low are not used. */
function countUsedSteps(config: Config, trainingLevels: Float32Array): number {
  return trainingLevels.filter((sigma) => -Math.log(sigma) >= config.lambda_min_clipped).length;
}

/** With more, two steps would have the same noise level, and there is no line through them. */
function maximumSteps(config: Config, trainingLevels: Float32Array): number {
  const used = countUsedSteps(config, trainingLevels);
  return (config.timestep_spacing === "leading" ? Math.floor(used / (config.steps_offset + 1)) : used) - 1;
}

/** diffusers' `set_timesteps`, with the level after the last step. */
function schedule(config: Config, steps: number, trainingLevels: Float32Array) {
  const spacing = { spacing: config.timestep_spacing, stepsOffset: config.steps_offset };
  const usedSteps = countUsedSteps(config, trainingLevels);
  const bounds = { ...spacing, trainSteps: trainingLevels.length, usedSteps };
  let timesteps: readonly number[] =
    config.timestep_spacing === "trailing"
      ? spaceTimesteps({ ...bounds, steps })
      : // The end of the last step counts as one more, at the cleanest level.
        spaceTimesteps({ ...bounds, steps: steps + 1 })
          .slice(0, -1)
          .map(roundHalfToEven);
  let sigmas: Iterable<number> = timesteps.map((timestep) => levelAt(trainingLevels, timestep));
  const [cleanest = 0, noisiest = 0] = [trainingLevels[0], trainingLevels.at(-1)];
  if (config.use_karras_sigmas === true) {
    const karras = karrasSigmas(config.sigma_min ?? cleanest, config.sigma_max ?? noisiest, steps);
    const toWhole = config.beta_schedule === "squaredcos_cap_v2" ? Math.trunc : roundHalfToEven;
    timesteps = Array.from(karras, (sigma) => toWhole(timestepOfSigma(sigma, trainingLevels)));
    sigmas = karras;
  }
  const last = config.final_sigmas_type === "zero" ? 0 : cleanest;
  return { timesteps, levels: Array.from([...sigmas, last], noiseLevel) };
}

/** From σ of x = x₀ + σ·ε to the form with variance 1. */
function noiseLevel(explodingSigma: number): NoiseLevel {
  const level = round(explodingSigma);
  const alpha = round(1 / round(Math.sqrt(round(round(level * level) + 1))));
  const sigma = round(level * alpha);
  return { alpha, sigma, lambda: round(round(Math.log(alpha)) - round(Math.log(sigma))) };
}
