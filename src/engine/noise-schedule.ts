import * as z from "zod";
import { roundHalfToEven } from "./floating-point.js";

/**
 * The noise levels a diffusion model was trained on, in float32 and in the order of operations of diffusers, so that they
 * equal its tables. Source: diffusers `EulerDiscreteScheduler.__init__`, `rescale_zero_terminal_snr`, `betas_for_alpha_bar`.
 */
export interface NoiseScheduleOptions {
  /** How many noise levels there are. */
  readonly trainSteps: number;
  readonly betaSchedule: "linear" | "scaled_linear" | "squaredcos_cap_v2";
  readonly betaStart: number;
  readonly betaEnd: number;
  /** Variances given one by one; they come before `betaSchedule`. */
  readonly trainedBetas?: readonly number[] | undefined;
  /** Makes the last level pure noise: algorithm 1 of https://arxiv.org/abs/2305.08891. */
  readonly zeroTerminalSnr: boolean;
}

const round = Math.fround;

/** ᾱ_t, the share of signal that is left at each training step; with a zero terminal SNR, none at the last. */
export function cumulativeAlphas(options: NoiseScheduleOptions): Float32Array {
  const betas = trainingBetas(options);
  return cumulativeProduct((options.zeroTerminalSnr ? withZeroTerminalSnr(betas) : betas).map((beta) => 1 - beta));
}

/** σ_t = √((1 − ᾱ_t) / ᾱ_t), from the first training step to the last. */
export function trainingSigmas(options: NoiseScheduleOptions): Float32Array {
  const alphas = cumulativeAlphas(options);
  if (options.zeroTerminalSnr) {
    // Close to 0 without being 0, so that the first sigma is not infinite.
    alphas[alphas.length - 1] = 2 ** -24;
  }
  return alphas.map((alpha) => Math.sqrt(round(round(1 - alpha) / alpha)));
}

function trainingBetas({
  trainSteps,
  betaSchedule,
  betaStart,
  betaEnd,
  trainedBetas,
}: NoiseScheduleOptions): Float32Array {
  if (trainedBetas !== undefined) {
    return Float32Array.from(trainedBetas);
  }
  switch (betaSchedule) {
    case "linear":
      return linearSpace(betaStart, betaEnd, trainSteps);
    case "scaled_linear":
      return linearSpace(Math.sqrt(betaStart), Math.sqrt(betaEnd), trainSteps).map((root) => root * root);
    case "squaredcos_cap_v2": {
      const alphaBar = (time: number) => Math.cos((((time + 0.008) / 1.008) * Math.PI) / 2) ** 2;
      return Float32Array.from({ length: trainSteps }, (_, i) =>
        Math.min(1 - alphaBar((i + 1) / trainSteps) / alphaBar(i / trainSteps), 0.999),
      );
    }
  }
}

/** `torch.linspace`: the first half counts from the start, the second back from the end, by fused steps. */
function linearSpace(start: number, end: number, length: number): Float32Array {
  const [first, last] = [round(start), round(end)];
  const step = round(round(last - first) / (length - 1));
  const middle = Math.floor(length / 2);
  return Float32Array.from({ length }, (_, i) => (i < middle ? first + step * i : last - step * (length - 1 - i)));
}

/** `torch.cumprod` on the CPU multiplies in double precision and keeps single. */
function cumulativeProduct(values: Float32Array): Float32Array {
  let product = 1;
  return values.map((value) => {
    product *= value;
    return product;
  });
}

function withZeroTerminalSnr(betas: Float32Array): Float32Array {
  const roots = cumulativeProduct(betas.map((beta) => 1 - beta)).map(Math.sqrt);
  const first = roots[0] ?? 0;
  const last = roots[roots.length - 1] ?? 0;
  const stretch = round(first / round(first - last));
  const squares = roots.map((root) => round(round(root - last) * stretch) ** 2);
  return squares.map((square, i) => 1 - (i === 0 ? square : round(square / (squares[i - 1] ?? 0))));
}

/** The keys of scheduler_config.json with the noise levels of the model's training, and most classes' defaults. */
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

/** How the steps asked for are spread over the training steps: table 2 of https://arxiv.org/abs/2305.08891. */
export interface TimestepSpacingOptions {
  readonly spacing: "linspace" | "leading" | "trailing";
  /** Added to each timestep of `leading`. */
  readonly stepsOffset: number;
  readonly trainSteps: number;
  /** How many of the training steps are used, from the cleanest. @default all */
  readonly usedSteps?: number;
  readonly steps: number;
}

/** Timesteps from the noisiest to the cleanest, in double precision, computed as numpy does for diffusers' schedulers. */
export function spaceTimesteps(options: TimestepSpacingOptions): readonly number[] {
  const { spacing, stepsOffset, trainSteps, usedSteps = trainSteps, steps } = options;
  switch (spacing) {
    case "linspace": {
      const last = usedSteps - 1;
      const distance = last / Math.max(steps - 1, 1);
      return Array.from({ length: steps }, (_, i) => {
        const index = steps - 1 - i;
        return index > 0 && index === steps - 1 ? last : index * distance;
      });
    }
    case "leading": {
      const distance = Math.floor(usedSteps / steps);
      return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * distance + stepsOffset);
    }
    case "trailing": {
      // As numpy.arange: its distance is that between its first two values. For some numbers of steps (61 of 1000) its
      // rounding yields one value more, at timestep -1; that one is left out here. Of fewer used steps come fewer values.
      const distance = usedSteps - trainSteps / steps - usedSteps;
      const spaced = Array.from({ length: steps }, (_, i) => roundHalfToEven(usedSteps + i * distance) - 1);
      return spaced.filter((timestep) => timestep >= 0);
    }
  }
}

/** ρ of the paper's equation 5. */
const rho = 7;

/**
 * Noise levels of Karras et al. 2022 (https://arxiv.org/abs/2206.00364, equation 5) from `maximum` down to `minimum`.
 */
export function karrasSigmas(minimum: number, maximum: number, steps: number): Float64Array {
  const [from, to] = [maximum ** (1 / rho), minimum ** (1 / rho)];
  return Float64Array.from({ length: steps }, (_, i) => (from + (i / Math.max(steps - 1, 1)) * (to - from)) ** rho);
}

/**
 * The timestep that a noise level belongs to, by linear interpolation between the logarithms of the training levels:
 * diffusers `_sigma_to_t`.
 *
 * @param trainingSigmas rising levels, one per training step.
 */
export function timestepOfSigma(sigma: number, trainingSigmas: Float32Array): number {
  const logarithms = trainingSigmas.map(Math.log);
  const wanted = Math.log(Math.max(sigma, 1e-10));
  const above = logarithms.findIndex((logarithm) => logarithm > wanted);
  const low = Math.min(Math.max((above === -1 ? logarithms.length : above) - 1, 0), logarithms.length - 2);
  const [lower, upper] = [logarithms[low] ?? 0, logarithms[low + 1] ?? 0];
  const share = Math.min(Math.max((lower - wanted) / (lower - upper), 0), 1);
  return (1 - share) * low + share * (low + 1);
}

/** What Euler's schedule depends on besides the number of steps. */
export interface EulerScheduleOptions {
  /** Noise level of each training step, rising. */
  readonly levels: Float32Array;
  readonly spacing: TimestepSpacingOptions["spacing"];
  readonly stepsOffset: number;
  /** The level after the last step. */
  readonly finalSigma: number;
  /** Karras et al.'s levels between these; an absent bound is that of the spaced levels. Absent: the spaced levels. */
  readonly karras?: { readonly minimum: number | undefined; readonly maximum: number | undefined } | undefined;
}

/** The way from noise to image: one timestep and one noise level per step, and the level after the last. */
export interface EulerSchedule {
  readonly timesteps: Float32Array;
  /** One longer than `timesteps`. */
  readonly sigmas: Float32Array;
  /** What standard normal noise is multiplied by at the start. */
  readonly initialNoiseSigma: number;
}

/** Timesteps and noise levels for so many steps: diffusers' `set_timesteps`, and `init_noise_sigma` after it. */
export function spaceEulerSchedule(options: EulerScheduleOptions, steps: number): EulerSchedule {
  const { levels, spacing, stepsOffset, finalSigma, karras } = options;
  let timesteps = Float32Array.from(spaceTimesteps({ spacing, stepsOffset, trainSteps: levels.length, steps }));
  let sigmas: Iterable<number> & ArrayLike<number> = Array.from(timesteps, (timestep) => levelAt(levels, timestep));
  if (karras !== undefined) {
    sigmas = karrasSigmas(karras.minimum ?? sigmas[steps - 1] ?? 0, karras.maximum ?? sigmas[0] ?? 0, steps);
    timesteps = Float32Array.from(sigmas, (sigma) => timestepOfSigma(sigma, levels));
  }
  const allSigmas = Float32Array.from([...sigmas, finalSigma]);
  const highest = allSigmas.reduce((maximum, sigma) => Math.max(maximum, sigma));
  return {
    timesteps,
    sigmas: allSigmas,
    initialNoiseSigma: spacing === "leading" ? round(Math.sqrt(round(round(highest * highest) + 1))) : highest,
  };
}

/** The noise level at a timestep that need not be whole: `numpy.interp` over the indices of the table. */
export function levelAt(levels: Float32Array, timestep: number): number {
  const low = Math.min(Math.max(Math.floor(timestep), 0), levels.length - 1);
  const start = levels[low] ?? 0;
  const end = levels[low + 1] ?? start;
  return Math.max(timestep - low, 0) * (end - start) + start;
}
