/**
 * x₀, the latents without noise, from what the model puts out. Models predict one of three things: the noise ε, the picture
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

/** Keeps the clean latents within ±`clip_sample_range`, where a configuration says so. */
export function clipSample(
  clean: Float32Array,
  { clip_sample, clip_sample_range: most }: { readonly clip_sample: boolean; readonly clip_sample_range: number },
): Float32Array {
  return clip_sample ? clean.map((value) => Math.min(Math.max(value, -most), most)) : clean;
}
