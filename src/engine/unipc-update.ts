import type { NoiseLevel, SolverStep } from "./multistep-schedule.js";

/** One update of UniPC: the predictor's, or the corrector's where `corrected` is there. */
export interface UniPcUpdate {
  readonly order: number;
  readonly solverType: "bh1" | "bh2";
  /** Whether predictions are x₀; else they are the noise ε. */
  readonly predictsClean: boolean;
  /** The step that the update starts from and those before it, the newest first; as many as the order. */
  readonly history: readonly [SolverStep, ...SolverStep[]];
  readonly next: NoiseLevel;
  /** The latents where the update starts. */
  readonly latents: Float32Array;
  /** The model's prediction at `next`, which the corrector takes in. */
  readonly corrected?: Float32Array | undefined;
}

const round = Math.fround;

/**
 * The latents at the next noise level: Zhao et al. 2023 (https://arxiv.org/abs/2302.04867), algorithms 5 to 8, with B(h) = h
 * ("bh1") or e^h − 1 ("bh2"). Each operation is rounded to float32 in the order of diffusers' `UniPCMultistepScheduler`, but
 * for the weights, which are solved in double precision.
 */
export function updateUniPc(update: UniPcUpdate): Float32Array {
  const { order, predictsClean, history, next, latents, corrected } = update;
  const [now] = history;
  const h = round(next.lambda - now.level.lambda);
  if (h === 0) {
    // Karras levels with `final_sigmas_type` "sigma_min" end where the last step is already.
    return Float32Array.from(latents);
  }
  const towards = predictsClean ? -h : h;
  const growth = round(Math.expm1(towards));
  const base = update.solverType === "bh1" ? towards : growth;
  const [kept, scale] = predictsClean
    ? [round(next.sigma / now.level.sigma), next.alpha]
    : [round(next.alpha / now.level.alpha), next.sigma];
  const [addedFactor, baseFactor] = [round(scale * growth), round(scale * base)];

  const earlier = history
    .slice(1, order)
    .map(({ level, prediction }) => ({ ratio: round(round(level.lambda - now.level.lambda) / h), prediction }));
  const ratios = earlier.map(({ ratio }) => ratio);
  const weights =
    corrected === undefined ? predictorWeights(ratios, { towards, base }) : correctorWeights(ratios, { towards, base });
  const lastWeight = weights[earlier.length] ?? 0;
  return latents.map((value, i) => {
    const start = now.prediction[i] ?? 0;
    let change = 0;
    for (const [k, { ratio, prediction }] of earlier.entries()) {
      change = round(change + round((weights[k] ?? 0) * round(round((prediction[i] ?? 0) - start) / ratio)));
    }
    if (corrected !== undefined) {
      change = round(change + round(lastWeight * round((corrected[i] ?? 0) - start)));
    }
    return round(round(kept * value) - round(addedFactor * start)) - round(baseFactor * change);
  });
}

interface StepSize {
  /** h, with the sign of the exponent. */
  readonly towards: number;
  /** B(h). */
  readonly base: number;
}

/** One weight for each earlier step. That of order 2 is simplified, as in the paper's code. */
function predictorWeights(ratios: readonly number[], size: StepSize): readonly number[] {
  return ratios.length < 2 ? ratios.map(() => 0.5) : solveVandermonde(ratios, moments(ratios.length, size));
}

/** One weight for each earlier step, and one for the prediction at the end. */
function correctorWeights(ratios: readonly number[], size: StepSize): readonly number[] {
  return ratios.length === 0 ? [0.5] : solveVandermonde([...ratios, 1], moments(ratios.length + 1, size));
}

/** Right sides i!·φ_(i+1)(h)·h / B(h), from i = 1: they make the weighted differences exact for polynomials in λ. */
function moments(count: number, { towards, base }: StepSize): readonly number[] {
  let phi = round(round(round(Math.expm1(towards)) / towards) - 1);
  let factorial = 1;
  return Array.from({ length: count }, (_, i) => {
    const moment = round(round(phi * factorial) / base);
    factorial *= i + 2;
    phi = round(round(phi / towards) - round(1 / factorial));
    return moment;
  });
}

/** Solves Σₖ wₖ·pₖⁱ = mᵢ by Björck and Pereyra's algorithm (Golub and Van Loan, algorithm 4.6.2), rounded to float32 at the end. */
function solveVandermonde(points: readonly number[], rightSides: readonly number[]): readonly number[] {
  const solution = [...rightSides];
  const last = solution.length - 1;
  const at = (i: number): number => solution[i] ?? 0;
  const point = (i: number): number => points[i] ?? 0;
  for (let k = 0; k < last; k++) {
    for (let i = last; i > k; i--) {
      solution[i] = at(i) - point(k) * at(i - 1);
    }
  }
  for (let k = last - 1; k >= 0; k--) {
    for (let i = k + 1; i <= last; i++) {
      solution[i] = at(i) / (point(i) - point(i - k - 1));
    }
    for (let i = k; i < last; i++) {
      solution[i] = at(i) - at(i + 1);
    }
  }
  return solution.map(round);
}
