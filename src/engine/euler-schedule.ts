import { karrasSigmas, timestepOfSigma } from "./karras-sigmas.js";
import { spaceTimesteps, type TimestepSpacingOptions } from "./timestep-spacing.js";

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

/** The way from noise to picture: one timestep and one noise level per step, and the level after the last. */
export interface EulerSchedule {
  readonly timesteps: Float32Array;
  /** One longer than `timesteps`. */
  readonly sigmas: Float32Array;
  /** What standard normal noise is multiplied by at the start. */
  readonly initialNoiseSigma: number;
}

const round = Math.fround;

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
