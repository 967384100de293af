import type { Pixels } from "./engine.js";
import type { VaeConfig } from "./model-config.js";
import { PaintError } from "./paint-error.js";
import { roundHalfToEven } from "./round-half-to-even.js";
import { runSubModel } from "./run-sub-model.js";
import type { FloatTensor, ModelSession } from "./sessions.js";

const round = Math.fround;

/**
 * Turns clean latents into a picture.
 *
 * @param latents [1, channels, height / factor, width / factor], in the UNet's scale.
 * @throws PaintError `failed` when the numbers are none.
 */
export async function decodeLatents(
  session: ModelSession,
  config: VaeConfig,
  latents: FloatTensor,
  signal: AbortSignal,
): Promise<Pixels> {
  if (!allFinite(latents.data)) {
    throw new PaintError(
      "failed",
      "the denoised latents are not numbers: the UNet overflows; a UNet exported in float32 does not",
    );
  }
  const feeds = { latent_sample: { data: unscale(latents, config), shape: latents.shape } };
  const picture = (await runSubModel(session, feeds, ["sample"], signal))("sample");
  if (!allFinite(picture.data)) {
    throw new PaintError(
      "failed",
      "the decoded picture has no numbers in it: SDXL's VAE overflows in float16; the model needs a vae_decoder exported in float32 or from sdxl-vae-fp16-fix",
    );
  }
  return toPixels(picture);
}

function allFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) {
    // 0 for every number; NaN, which stays, for an infinity or no number.
    sum += (values[i] ?? 0) * 0;
  }
  return sum === 0;
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
