import type { Pixels } from "./engine.js";
import type { ThroughlineConfig, VaeConfig } from "./model-config.js";
import type { FloatTensor } from "./sessions.js";

/** A linear guess of a picture from its latents, one pixel a latent. */
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
 * The model's own factors come from throughline.json; without them, SDXL's are taken where the VAE is SDXL's by its channels and
 * its scaling factor. Undefined where nobody knows them.
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
