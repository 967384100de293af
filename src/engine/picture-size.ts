import type { ModelDescription } from "./model-description.js";
import type { InputSpec } from "./sessions.js";

/** Which lengths one side of a picture can have, in pixels. */
export interface SideRule {
  /** Every length is a multiple of it. */
  readonly step: number;
  readonly minimum: number;
  readonly maximum: number;
  readonly default: number;
}

/** Which pictures a model can paint. */
export interface SizeRules {
  readonly width: SideRule;
  readonly height: SideRule;
  /** Pixels per latent, each way. */
  readonly vaeFactor: number;
}

/**
 * Sizes that a model can paint. A latent is as many pixels as the VAE has doublings; the UNet halves the latents as often as
 * it has levels to go down, and an exported graph can only double back what divides evenly.
 *
 * The largest side is `maximumSize` of throughline.json, else twice the native one: memory grows with the fourth power of a
 * side, and a request must not be able to take it all. A graph exported for one size takes that one only.
 *
 * @param sample the UNet's input of the latents: [batch, channels, height, width].
 */
export function sizeRules({ unet, vae, throughline }: ModelDescription, sample: InputSpec | undefined): SizeRules {
  const vaeFactor = 2 ** (vae.block_out_channels.length - 1);
  const step = vaeFactor * 2 ** (unet.block_out_channels.length - 1);
  const native = unet.sample_size * vaeFactor;
  const side = (axis: 2 | 3, ownDefault: number | undefined): SideRule => {
    const fixed = sample?.shape[axis];
    if (typeof fixed === "number") {
      const length = fixed * vaeFactor;
      return { step, minimum: length, maximum: length, default: length };
    }
    const most = throughline.maximumSize ?? 2 * native;
    return { step, minimum: step, maximum: most - (most % step), default: ownDefault ?? native };
  };
  return { width: side(3, throughline.defaultWidth), height: side(2, throughline.defaultHeight), vaeFactor };
}

export function fitsRule(length: number, { step, minimum, maximum }: SideRule): boolean {
  return length % step === 0 && length >= minimum && length <= maximum;
}

/** The rule in words, such as `a multiple of 32 from 32 to 2048`. */
export function describeRule({ step, minimum, maximum }: SideRule): string {
  return minimum === maximum ? `${minimum}` : `a multiple of ${step} from ${minimum} to ${maximum}`;
}
