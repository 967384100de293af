import { GenerationError, type Pixels } from "./engine.js";
import { allFinite } from "./floating-point.js";
import type { VaeConfig } from "./model-config.js";
import { type FloatTensor, type ModelSession, runSubModel } from "./sessions.js";
import type { NoiseGenerator } from "./torch-generator.js";

const round = Math.fround;

/** Turns images into latents. Its graph is loaded by the first image and stays loaded. */
export interface VaeEncoder {
  /**
   * Draws latents of an image in the UNet's scale: diffusers' `prepare_latents` before the noise.
   *
   * @param generator gives one draw of the latents' size.
   * @throws GenerationError `failed` when the graph cannot be loaded or the numbers are none.
   */
  encode(image: Pixels, generator: NoiseGenerator, signal: AbortSignal): Promise<Float32Array>;
  release(): Promise<void>;
}

/** @param open loads the encoder's graph. */
export function createVaeEncoder(config: VaeConfig, open: () => Promise<ModelSession>): VaeEncoder {
  let session: ModelSession | undefined;
  return {
    async encode(image, generator, signal) {
      signal.throwIfAborted();
      session ??= await open().catch((cause: unknown) => {
        throw new GenerationError("failed", "the model's VAE encoder cannot be loaded", { cause });
      });
      return encodeLatents(session, config, image, { generator, signal });
    },
    async release() {
      await session?.release();
    },
  };
}

async function encodeLatents(
  session: ModelSession,
  config: VaeConfig,
  image: Pixels,
  { generator, signal }: { readonly generator: NoiseGenerator; readonly signal: AbortSignal },
): Promise<Float32Array> {
  const feeds = { sample: fromPixels(image) };
  const parameters = (await runSubModel(session, feeds, ["latent_parameters"], signal))("latent_parameters");
  if (!allFinite(parameters.data)) {
    throw new GenerationError(
      "failed",
      "the encoded image has no numbers in it: SDXL's VAE overflows in float16; the model needs a vae_encoder exported in float32 or from sdxl-vae-fp16-fix",
    );
  }
  const half = parameters.data.length / 2;
  const latents = sample(parameters, generator.randn(half));
  return scale(latents, config);
}

/** Bytes, pixel by pixel, to −1 … 1, channel by channel: diffusers' `VaeImageProcessor.preprocess` of an image of the right size. */
function fromPixels({ data, width, height }: Pixels): FloatTensor {
  const size = width * height;
  const values = new Float32Array(3 * size);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < size; i++) {
      values[channel * size + i] = round(2 * round((data[i * 3 + channel] ?? 0) / 255)) - 1;
    }
  }
  return { data: values, shape: [1, 3, height, width] };
}

/** Draws from the normal distribution that the encoder gives: diffusers' `DiagonalGaussianDistribution.sample`. */
function sample({ data }: FloatTensor, noise: Float32Array): Float32Array {
  return noise.map((value, i) => {
    const logVariance = Math.min(Math.max(data[noise.length + i] ?? 0, -30), 20);
    const deviation = round(Math.exp(round(0.5 * logVariance)));
    return (data[i] ?? 0) + round(deviation * value);
  });
}

/** From the encoder's scale to the UNet's: the inverse of what the decoder's latents get. */
function scale(latents: Float32Array, config: VaeConfig): Float32Array {
  const factor = round(config.scaling_factor);
  const { latents_mean: means, latents_std: deviations } = config;
  if (means == null || deviations == null) {
    const shift = config.shift_factor ?? 0;
    return latents.map((value) => factor * round(value - shift));
  }
  const size = latents.length / config.latent_channels;
  return latents.map((value, i) => {
    const channel = Math.floor(i / size);
    return round(round(value - round(means[channel] ?? 0)) * factor) / round(deviations[channel] ?? 1);
  });
}
