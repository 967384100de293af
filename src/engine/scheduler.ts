/**
 * A sampling algorithm with its configuration. It holds no state of an image: that is in the steps it hands out, and each
 * step leads to the next one only through the model's output, so that no call can come in a wrong order.
 */
export interface Scheduler {
  /** Steps that the model was trained on, and so the most that it can be asked for. */
  readonly maximumSteps: number;
  begin(start: SamplingStart): SamplingState;
}

/** What sampling begins from. */
export interface SamplingStart {
  /** Number of model evaluations, those that `image` skips included. */
  readonly steps: number;
  /** Standard normal noise of the latents' size; it is not changed. */
  readonly noise: Float32Array;
  /**
   * More standard normal noise of the same size, for algorithms that add some on the way: one draw when a step advances, or
   * none, at the same places as diffusers.
   */
  readonly drawNoise: () => Float32Array;
  /** Image to start from. @default noise alone, from the first step */
  readonly image?: SamplingImage | undefined;
}

/** Latents of an image: sampling begins in mid-way, from them with `noise` at the level of the first step that runs. */
export interface SamplingImage {
  readonly latents: Float32Array;
  readonly skippedSteps: number;
}

/** State of the sampling: the next run of the model, or the finished latents. */
export type SamplingState = SamplingStep | { readonly kind: "finished"; readonly latents: Float32Array };

/** One step: run the model on `modelInput` at `timestep`, and continue with its output. */
export interface SamplingStep {
  readonly kind: "step";
  /** Timestep as the model takes it; not always an integer. */
  readonly timestep: number;
  /** Latents, scaled as the model takes them. */
  readonly modelInput: Float32Array;
  advance(modelOutput: Float32Array): SamplingAdvance;
}

export interface SamplingAdvance {
  readonly next: SamplingState;
  /** The latents without any noise, as the model predicts them at this step: what a preview shows. */
  readonly predictedClean: Float32Array;
}

/** The sampling of one image along timesteps: what a scheduler makes at each of them. `Memory` is what a step hands on to the next. */
export interface TimestepWalk<Memory> {
  /** From the noisiest to the cleanest. */
  readonly timesteps: ArrayLike<number>;
  /** Factor of the noise that latents without an image are. @default 1 */
  readonly initialNoiseSigma?: number;
  /** Puts noise of the level of step `index` on the latents of an image: diffusers' `add_noise`. */
  addNoise(latents: Float32Array, noise: Float32Array, index: number): Float32Array;
  /** Scales latents as the model takes them. @default as they are */
  toModelInput?(latents: Float32Array, index: number): Float32Array;
  advance(step: WalkStep<Memory>): WalkAdvance<Memory>;
}

/** One step with the model's output for it. */
export interface WalkStep<Memory> {
  /** Place in `timesteps`. */
  readonly index: number;
  readonly timestep: number;
  readonly latents: Float32Array;
  readonly modelOutput: Float32Array;
  /** What the step before handed on; undefined in the first one. */
  readonly before: Memory | undefined;
}

export interface WalkAdvance<Memory> extends Pick<SamplingAdvance, "predictedClean"> {
  /** The latents at the next timestep. */
  readonly latents: Float32Array;
  readonly memory?: Memory;
}

/** The sampling that goes one timestep after the other to their end, from the first or, with an image, from a later one. */
export function walkTimesteps<Memory>(
  { noise, image }: Pick<SamplingStart, "noise" | "image">,
  walk: TimestepWalk<Memory>,
): SamplingState {
  const { timesteps, initialNoiseSigma = 1 } = walk;
  const stepAt = (index: number, latents: Float32Array, before: Memory | undefined): SamplingState => {
    const timestep = timesteps[index];
    if (timestep === undefined) {
      return { kind: "finished", latents };
    }
    return {
      kind: "step",
      timestep,
      modelInput: walk.toModelInput?.(latents, index) ?? latents,
      advance(modelOutput) {
        const moved = walk.advance({ index, timestep, latents, modelOutput, before });
        return { next: stepAt(index + 1, moved.latents, moved.memory), predictedClean: moved.predictedClean };
      },
    };
  };
  if (image === undefined) {
    return stepAt(
      0,
      noise.map((value) => value * initialNoiseSigma),
      undefined,
    );
  }
  const { latents, skippedSteps } = image;
  return stepAt(skippedSteps, walk.addNoise(latents, noise, skippedSteps), undefined);
}

/**
 * x₀, the latents without noise, from the model's output. Models predict one of three things: the noise ε, the image
 * itself, or v = α·ε − σ·x₀ (appendix D of https://arxiv.org/abs/2202.00512). Each operation is rounded to float32 in the
 * order of diffusers' schedulers.
 */
export type PredictionType = "epsilon" | "v_prediction" | "sample";

const round = Math.fround;

/** For latents whose variance grows with the noise: x = x₀ + σ·ε, as Euler's methods keep them. */
export function predictCleanExploding(
  predictionType: PredictionType,
  sigma: number,
  latents: Float32Array,
  modelOutput: Float32Array,
): Float32Array {
  switch (predictionType) {
    case "epsilon":
      return latents.map((value, i) => value - round(sigma * (modelOutput[i] ?? 0)));
    case "v_prediction": {
      const variance = round(round(sigma * sigma) + 1);
      const outputScale = round(-sigma / round(Math.sqrt(variance)));
      return latents.map((value, i) => round((modelOutput[i] ?? 0) * outputScale) + round(value / variance));
    }
    case "sample":
      return Float32Array.from(modelOutput);
  }
}

/** Noise at one step of latents whose variance stays 1: x = α·x₀ + σ·ε with α² + σ² = 1. */
export interface PreservingLevel {
  readonly alpha: number;
  readonly sigma: number;
}

/** The level with the share ᾱ of signal, which is α². */
export function preservingLevel(cumulativeAlpha: number): PreservingLevel {
  return { alpha: round(Math.sqrt(cumulativeAlpha)), sigma: round(Math.sqrt(round(1 - cumulativeAlpha))) };
}

/** For latents whose variance stays 1, as all the others keep them. */
export function predictCleanPreserving(
  predictionType: PredictionType,
  { alpha, sigma }: PreservingLevel,
  latents: Float32Array,
  modelOutput: Float32Array,
): Float32Array {
  switch (predictionType) {
    case "epsilon":
      return latents.map((value, i) => round(value - round(sigma * (modelOutput[i] ?? 0))) / alpha);
    case "v_prediction":
      return latents.map((value, i) => round(alpha * value) - round(sigma * (modelOutput[i] ?? 0)));
    case "sample":
      return Float32Array.from(modelOutput);
  }
}

/** x₀ + σ·ε: the form of Euler's methods. */
export function addNoiseExploding(clean: Float32Array, noise: Float32Array, sigma: number): Float32Array {
  return clean.map((value, i) => value + round((noise[i] ?? 0) * sigma));
}

/** α·x₀ + σ·ε: the form of all the others. */
export function addNoisePreserving(
  clean: Float32Array,
  noise: Float32Array,
  { alpha, sigma }: PreservingLevel,
): Float32Array {
  return clean.map((value, i) => round(alpha * value) + round(sigma * (noise[i] ?? 0)));
}

/** Keeps the clean latents within ±`clip_sample_range`, if a configuration sets it. */
export function clipSample(
  clean: Float32Array,
  { clip_sample, clip_sample_range: most }: { readonly clip_sample: boolean; readonly clip_sample_range: number },
): Float32Array {
  return clip_sample ? clean.map((value) => Math.min(Math.max(value, -most), most)) : clean;
}
