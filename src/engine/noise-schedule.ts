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
