import type { ExecutionProvider } from "./device.js";
import type { PromptEmbedding } from "./prompt-encoder.js";
import { type FloatTensor, type ModelSession, runSubModel } from "./sessions.js";

/** What all evaluations of the UNet for one image have in common. */
export interface DenoiserOptions {
  /** Of one image's latents: [1, channels, height, width]. */
  readonly latentShape: readonly number[];
  readonly positive: PromptEmbedding;
  /** Absent: no guidance, one run a step. */
  readonly negative?: PromptEmbedding | undefined;
  readonly guidanceScale: number;
  /** How much of the guided output is rescaled, 0 to 1: see `rescale`. @default 0 */
  readonly guidanceRescale?: number;
  /** SDXL's size conditioning: see `timeIds`. */
  readonly timeIds: readonly number[];
  /** For a UNet with a guidance input: see `guidanceEmbedding`. */
  readonly guidanceEmbedding?: Float32Array | undefined;
  /** Runs both halves of a guided step as one batch of two, where the graph takes batches: see `batchPays`. */
  readonly batchGuidance: boolean;
}

/**
 * Output of the UNet for scaled `latents` at `timestep`, guided if there is a negative prompt:
 * u + s · (c − u), https://arxiv.org/abs/2207.12598.
 */
export type Denoiser = (latents: Float32Array, timestep: number, signal: AbortSignal) => Promise<Float32Array>;

/** Original size, crop's corner and target size, in pixels: section 2.2 of https://arxiv.org/abs/2307.01952, uncropped. */
export function timeIds(width: number, height: number): readonly number[] {
  return [height, width, 0, 0, height, width];
}

/** Maximum latents of an image, height × width, for which a batch of two is faster on a CPU. */
const fewLatents = 24 * 24;

/**
 * Whether one batch of two is faster than two runs. It fills a GPU better. A CPU of two cores took 0.7 of the time of two runs at 8 × 8
 * latents of the embedded model, 0.8 at 16 × 16, 0.9 at 24 × 24 and as long at 32 × 32; from there on, two runs need half the memory
 * and let an abort in between them.
 */
export function batchPays(provider: ExecutionProvider, [, , height = 1, width = 1]: readonly number[]): boolean {
  return provider !== "cpu" || height * width <= fewLatents;
}

/** Create the inputs that all steps of one image share, so that a step copies only the latents of a batch. */
export function createDenoiser(unet: ModelSession, options: DenoiserOptions): Denoiser {
  const { positive, negative, guidanceScale, guidanceRescale = 0 } = options;
  const combine = (without: Float32Array, conditioned: Float32Array): Float32Array =>
    rescale(guide(without, conditioned, guidanceScale), conditioned, guidanceRescale);
  if (negative === undefined) {
    return createRun(unet, options, positive);
  }
  if (options.batchGuidance && takesBatches(unet)) {
    const both = createRun(unet, options, {
      context: pair(negative.context, positive.context),
      pooled: pair(negative.pooled, positive.pooled),
    });
    return async (latents, timestep, signal) => {
      const output = await both(latents, timestep, signal);
      return combine(output.subarray(0, latents.length), output.subarray(latents.length));
    };
  }
  const without = createRun(unet, options, negative);
  const conditioned = createRun(unet, options, positive);
  return async (latents, timestep, signal) =>
    combine(await without(latents, timestep, signal), await conditioned(latents, timestep, signal));
}

/** Evaluates the UNet for a batch of prompts on the same latents; their outputs follow each other. */
function createRun(
  unet: ModelSession,
  { latentShape, timeIds, guidanceEmbedding }: DenoiserOptions,
  { context, pooled }: Pick<PromptEmbedding, "context" | "pooled">,
): Denoiser {
  const batch = context.shape[0] ?? 1;
  const forEach = (values: ArrayLike<number>) => repeat(Float32Array.from(values), batch);
  const conditions = {
    encoder_hidden_states: context,
    text_embeds: pooled,
    time_ids: { data: forEach(timeIds), shape: [batch, timeIds.length] },
    ...(guidanceEmbedding && {
      timestep_cond: { data: forEach(guidanceEmbedding), shape: [batch, guidanceEmbedding.length] },
    }),
  };
  const sampleShape = [batch, ...latentShape.slice(1)];
  const timesteps = wantsTimestepOfEach(unet) ? batch : 1;
  return async (latents, timestep, signal) => {
    const feeds = {
      sample: { data: repeat(latents, batch), shape: sampleShape },
      timestep: { data: new Array<number>(timesteps).fill(timestep), shape: [timesteps] },
      ...conditions,
    };
    return (await runSubModel(unet, feeds, ["out_sample"], signal))("out_sample").data;
  };
}

/** Applies classifier-free guidance in place: extrapolates from the prediction without the prompt to the one with it. */
function guide(without: Float32Array, conditioned: Float32Array, scale: number): Float32Array {
  const factor = Math.fround(scale);
  for (let i = 0; i < without.length; i++) {
    const start = without[i] ?? 0;
    without[i] = start + Math.fround(factor * Math.fround((conditioned[i] ?? 0) - start));
  }
  return without;
}

/**
 * Takes the guided output in place towards the standard deviation of the one with the prompt, which strong guidance exceeds: section 3.4 of
 * https://arxiv.org/abs/2305.08891, diffusers' `rescale_noise_cfg`.
 *
 * @param share 0: unchanged; 1: the whole of it.
 */
function rescale(guided: Float32Array, conditioned: Float32Array, share: number): Float32Array {
  if (share === 0) {
    return guided;
  }
  const deviation = standardDeviation(guided);
  // One value everywhere has nothing to rescale.
  const ratio = deviation === 0 ? 1 : Math.fround(standardDeviation(conditioned) / deviation);
  const [rescaled, rest] = [Math.fround(share), Math.fround(1 - share)];
  for (let i = 0; i < guided.length; i++) {
    const value = guided[i] ?? 0;
    guided[i] = Math.fround(rescaled * Math.fround(value * ratio)) + Math.fround(rest * value);
  }
  return guided;
}

/** Of the values of one image, in float32. */
function standardDeviation(values: Float32Array): number {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  // One less than their number, as torch.std. A single value has none.
  return Math.fround(Math.sqrt(squares / Math.max(1, values.length - 1)));
}

/** Not a graph that was exported for one image at a time. */
function takesBatches(unet: ModelSession): boolean {
  return typeof unet.inputs.get("sample")?.shape[0] === "string";
}

/** A graph that takes a timestep per image gives both the same dimension name; others broadcast one timestep. */
function wantsTimestepOfEach(unet: ModelSession): boolean {
  const images = unet.inputs.get("sample")?.shape[0];
  return typeof images === "string" && unet.inputs.get("timestep")?.shape[0] === images;
}

/** Two batches of one as a batch of two. */
function pair(first: FloatTensor, second: FloatTensor): FloatTensor {
  const data = new Float32Array(first.data.length + second.data.length);
  data.set(first.data);
  data.set(second.data, first.data.length);
  return { data, shape: [2, ...first.shape.slice(1)] };
}

/** The values so often after each other; once, they are not copied. */
function repeat(values: Float32Array, times: number): Float32Array {
  if (times === 1) {
    return values;
  }
  const repeated = new Float32Array(values.length * times);
  for (let i = 0; i < times; i++) {
    repeated.set(values, i * values.length);
  }
  return repeated;
}

const round = Math.fround;

/** Ratio of the longest period to the shortest. */
const longestPeriod = round(Math.log(10000));

/**
 * Guidance scale as the input `timestep_cond` of a guidance-distilled UNet: sines and cosines of
 * 1000 · (scale − 1) at falling frequencies, in the way of https://arxiv.org/abs/2210.03142 that latent consistency models take
 * (https://arxiv.org/abs/2310.04378). Rounded to float32 in the order of diffusers' `get_guidance_scale_embedding`.
 *
 * @param width length of the embedding; the last place of an odd one is 0.
 */
export function guidanceEmbedding(scale: number, width: number): Float32Array {
  const half = Math.floor(width / 2);
  const weight = round(round(scale - 1) * 1000);
  const exponent = round(longestPeriod / (half - 1));
  const embedding = new Float32Array(width);
  for (let i = 0; i < half; i++) {
    const angle = round(weight * round(Math.exp(-round(i * exponent))));
    embedding[i] = Math.sin(angle);
    embedding[half + i] = Math.cos(angle);
  }
  return embedding;
}
