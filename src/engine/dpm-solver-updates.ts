import type { NoiseLevel, SolverStep } from "./multistep-schedule.js";

/** One update of DPM-Solver++. */
export interface DpmSolverUpdate {
  readonly order: 1 | 2 | 3;
  /** How the second order weighs the slope. */
  readonly solverType: "midpoint" | "heun";
  /** This step and those before it, the newest first; as many as the order. Predictions are x₀. */
  readonly history: readonly [SolverStep, ...SolverStep[]];
  readonly next: NoiseLevel;
  readonly latents: Float32Array;
  /** Standard normal noise of the stochastic form; absent: the deterministic one. */
  readonly noise: Float32Array | undefined;
}

/** Factors of an update. It adds up latents, x₀, its slope and curvature in λ, and noise, in this order. */
interface Factors {
  readonly latents: number;
  readonly clean: number;
  readonly slope: number;
  readonly curvature: number;
  readonly noise: number;
}

const round = Math.fround;

/**
 * The latents at the next noise level. Each operation is rounded to float32 in the order of diffusers'
 * `DPMSolverMultistepScheduler`.
 */
export function updateDpmSolver(update: DpmSolverUpdate): Float32Array {
  const { history, next, latents, noise } = update;
  const [now] = history;
  const h = round(next.lambda - now.level.lambda);
  if (h === 0) {
    // Karras levels with `final_sigmas_type` "sigma_min" end where the last step is already.
    return Float32Array.from(latents);
  }
  const factors = (noise === undefined ? deterministicFactors : stochasticFactors)(update, h);
  const { slope, curvature } = derivatives(update, h);
  const terms: readonly (readonly [factor: number, values: Float32Array | undefined])[] = [
    [factors.clean, now.prediction],
    [factors.slope, slope],
    [factors.curvature, curvature],
    [factors.noise, noise],
  ];
  const moved = latents.map((value) => factors.latents * value);
  for (const [factor, values] of terms) {
    if (values !== undefined) {
      for (const [i, value] of values.entries()) {
        moved[i] = (moved[i] ?? 0) + round(factor * value);
      }
    }
  }
  return moved;
}

/** D₁ and D₂: divided differences of x₀ in λ, in units of h. */
function derivatives(
  { order, history }: DpmSolverUpdate,
  h: number,
): { readonly slope?: Float32Array; readonly curvature?: Float32Array } {
  const [now, before, earlier] = history;
  if (order === 1 || before === undefined) {
    return {};
  }
  const distance = round(round(now.level.lambda - before.level.lambda) / h);
  const lastSlope = difference(now, before, distance);
  if (order === 2 || earlier === undefined) {
    return { slope: lastSlope };
  }
  const distanceBefore = round(round(before.level.lambda - earlier.level.lambda) / h);
  const slopeBefore = difference(before, earlier, distanceBefore);
  const change = lastSlope.map((value, i) => value - (slopeBefore[i] ?? 0));
  const sum = round(distance + distanceBefore);
  const [share, scale] = [round(distance / sum), round(1 / sum)];
  return {
    slope: lastSlope.map((value, i) => value + round(share * (change[i] ?? 0))),
    curvature: change.map((value) => scale * value),
  };
}

function difference(one: SolverStep, other: SolverStep, distance: number): Float32Array {
  const scale = round(1 / distance);
  return one.prediction.map((value, i) => scale * round(value - (other.prediction[i] ?? 0)));
}

/** x' = (σ'/σ)·x − α'·(e^−h − 1)·x₀ − …: Lu et al. 2022 (https://arxiv.org/abs/2211.01095), appendix B. */
function deterministicFactors({ order, solverType, history: [now], next }: DpmSolverUpdate, h: number): Factors {
  const decay = round(round(Math.exp(-h)) - 1);
  const clean = round(next.alpha * decay);
  return {
    latents: round(next.sigma / now.level.sigma),
    clean: -clean,
    slope:
      order === 2 && solverType === "midpoint" ? -round(0.5 * clean) : round(next.alpha * round(round(decay / h) + 1)),
    curvature: -round(next.alpha * round(round(round(decay + h) / round(h * h)) - 0.5)),
    noise: 0,
  };
}

/** The same for the diffusion SDE: x' = (σ'/σ)·e^−h·x + α'·(1 − e^−2h)·x₀ + … + σ'·√(1 − e^−2h)·z. */
function stochasticFactors({ order, solverType, history: [now], next }: DpmSolverUpdate, h: number): Factors {
  const twice = round(2 * h);
  const gain = round(1 - round(Math.exp(-twice)));
  const clean = round(next.alpha * gain);
  return {
    latents: round(round(next.sigma / now.level.sigma) * round(Math.exp(-h))),
    clean,
    slope:
      order === 2 && solverType === "midpoint"
        ? round(0.5 * clean)
        : round(next.alpha * round(round(gain / -twice) + 1)),
    curvature: round(next.alpha * round(round(round(gain - twice) / round(twice * twice)) - 0.5)),
    noise: round(next.sigma * round(Math.sqrt(gain))),
  };
}
