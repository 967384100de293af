import type { Pixels } from "./engine.js";
import type { ThroughlineConfig } from "./model-config.js";
import type { FloatTensor } from "./sessions.js";

/** A linear guess of a picture from its latents, one pixel a latent. */
export type LatentPreview = (latents: FloatTensor) => Pixels;

type Colour = readonly [red: number, green: number, blue: number];

/** For SDXL's own four channels. Source: https://github.com/comfyanonymous/ComfyUI, comfy/latent_formats.py, class SDXL. */
const sdxlFactors: readonly Colour[] = [
  [0.3651, 0.4232, 0.4341],
  [-0.2533, -0.0042, 0.1068],
  [0.1076, 0.1111, -0.0362],
  [-0.3165, -0.2492, -0.2188],
];
const sdxlBias: Colour = [0.1084, -0.0175, -0.0011];

/** Undefined where nobody knows the factors: the model's own come from throughline.json. */
export function createLatentPreview(channels: number, config: ThroughlineConfig): LatentPreview | undefined {
  const known = channels === sdxlFactors.length ? { factors: sdxlFactors, bias: sdxlBias } : undefined;
  const { factors, bias } =
    config.previewFactors !== undefined
      ? { factors: config.previewFactors, bias: config.previewBias ?? [0, 0, 0] }
      : (known ?? {});
  if (factors === undefined || bias === undefined) {
    return undefined;
  }
  return ({ data, shape }) => {
    const [, , height = 0, width = 0] = shape;
    const size = width * height;
    const bytes = new Uint8ClampedArray(size * 3);
    for (let i = 0; i < size; i++) {
      for (const [colour, start] of bias.entries()) {
        const value = factors.reduce(
          (sum, row, channel) => sum + (row[colour] ?? 0) * (data[channel * size + i] ?? 0),
          start,
        );
        bytes[i * 3 + colour] = ((value + 1) / 2) * 255;
      }
    }
    return { data: new Uint8Array(bytes.buffer), width, height };
  };
}
