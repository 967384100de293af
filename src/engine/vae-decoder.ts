import { GenerationError, type Pixels } from "./engine.js";
import { allFinite, roundHalfToEven } from "./floating-point.js";
import type { ThroughlineConfig, VaeConfig } from "./model-config.js";
import { type FloatTensor, type ModelSession, runSubModel } from "./sessions.js";

const round = Math.fround;

/**
 * Turns clean latents into an image.
 *
 * @param latents [1, channels, height / factor, width / factor], in the UNet's scale.
 * @throws GenerationError `failed` when the numbers are none.
 */
export async function decodeLatents(
  session: ModelSession,
  config: VaeConfig,
  latents: FloatTensor,
  signal: AbortSignal,
): Promise<Pixels> {
  if (!allFinite(latents.data)) {
    throw new GenerationError(
      "failed",
      "the denoised latents are not numbers: the UNet overflows; a UNet exported in float32 does not",
    );
  }
  const feeds = { latent_sample: { data: unscale(latents, config), shape: latents.shape } };
  const image = (await runSubModel(session, feeds, ["sample"], signal))("sample");
  if (!allFinite(image.data)) {
    throw new GenerationError(
      "failed",
      "the decoded image has no numbers in it: SDXL's VAE overflows in float16; the model needs a vae_decoder exported in float32 or from sdxl-vae-fp16-fix",
    );
  }
  return toPixels(image);
}

/** From the UNet's scale to the decoder's: diffusers' SDXL pipeline, step "unscale/denormalize the latents". */
function unscale({ data, shape }: FloatTensor, config: VaeConfig): Float32Array {
  const factor = round(config.scaling_factor);
  const { latents_mean: means, latents_std: deviations } = config;
  if (means == null || deviations == null) {
    const shift = config.shift_factor ?? 0;
    return data.map((value) => round(value / factor) + shift);
  }
  const size = data.length / (shape[1] ?? 1);
  return data.map((value, i) => {
    const channel = Math.floor(i / size);
    return round(round(value * round(deviations[channel] ?? 1)) / factor) + round(means[channel] ?? 0);
  });
}

/** −1 … 1, channel by channel, to bytes, pixel by pixel: diffusers' `VaeImageProcessor.postprocess`. */
function toPixels({ data, shape }: FloatTensor): Pixels {
  const [, channels = 3, height = 0, width = 0] = shape;
  const size = width * height;
  const bytes = new Uint8Array(size * 3);
  for (let channel = 0; channel < 3; channel++) {
    const from = Math.min(channel, channels - 1) * size;
    for (let i = 0; i < size; i++) {
      const unit = round(round((data[from + i] ?? 0) * 0.5) + 0.5);
      bytes[i * 3 + channel] = roundHalfToEven(round(Math.min(Math.max(unit, 0), 1) * 255));
    }
  }
  return { data: bytes, width, height };
}

/** A linear guess of an image from its latents, one pixel a latent. */
export type LatentPreview = (latents: FloatTensor) => Pixels;

type Colour = readonly [red: number, green: number, blue: number];

/** For the latents of SDXL's own VAE. Source: https://github.com/comfyanonymous/ComfyUI, comfy/latent_formats.py, class SDXL. */
const sdxlFactors: readonly Colour[] = [
  [0.3651, 0.4232, 0.4341],
  [-0.2533, -0.0042, 0.1068],
  [0.1076, 0.1111, -0.0362],
  [-0.3165, -0.2492, -0.2188],
];
const sdxlBias: Colour = [0.1084, -0.0175, -0.0011];
const sdxlScalingFactor = 0.13025;

/**
 * The model's own factors come from throughline.json; without them, SDXL's are used if the VAE has SDXL's channels and scaling
 * factor. Undefined if unknown.
 */
export function createLatentPreview(vae: VaeConfig, config: ThroughlineConfig): LatentPreview | undefined {
  if (config.previewFactors !== undefined) {
    return projection(config.previewFactors, config.previewBias ?? [0, 0, 0]);
  }
  const sdxl = vae.latent_channels === sdxlFactors.length && vae.scaling_factor === sdxlScalingFactor;
  return sdxl ? projection(sdxlFactors, sdxlBias) : undefined;
}

/** One row of `factors` a latent channel; colours come out in −1 … 1. */
function projection(factors: readonly Colour[], bias: Colour): LatentPreview {
  return ({ data, shape }) => {
    const [, , height = 0, width = 0] = shape;
    const size = width * height;
    const colours = new Float32Array(size * 3);
    const [biasRed, biasGreen, biasBlue] = bias;
    for (let place = 0; place < colours.length; place += 3) {
      colours[place] = biasRed;
      colours[place + 1] = biasGreen;
      colours[place + 2] = biasBlue;
    }
    for (const [channel, [red, green, blue]] of factors.entries()) {
      const start = channel * size;
      for (let i = 0, place = 0; i < size; i++, place += 3) {
        const value = data[start + i] ?? 0;
        colours[place] = (colours[place] ?? 0) + red * value;
        colours[place + 1] = (colours[place + 1] ?? 0) + green * value;
        colours[place + 2] = (colours[place + 2] ?? 0) + blue * value;
      }
    }
    const bytes = new Uint8ClampedArray(size * 3);
    for (let place = 0; place < colours.length; place++) {
      bytes[place] = ((colours[place] ?? 0) + 1) * 127.5;
    }
    return { data: new Uint8Array(bytes.buffer), width, height };
  };
}
