import type { PromptEmbedding } from "./prompt-encoder.js";
import { runSubModel } from "./run-sub-model.js";
import type { ModelSession } from "./sessions.js";

/** What one evaluation of the UNet depends on besides the prompt. */
export interface DenoiserInput {
  /** Latents scaled for the model: [1, channels, height, width]. */
  readonly latents: Float32Array;
  readonly latentShape: readonly number[];
  readonly timestep: number;
  /** SDXL's size conditioning: see `timeIds`. */
  readonly timeIds: readonly number[];
  /** For a UNet that guides itself: see `guidanceEmbedding`. */
  readonly guidanceEmbedding?: Float32Array | undefined;
}

/** With whom the picture is guided: the prompt alone, or the prompt away from its opposite. */
export interface Guidance {
  readonly positive: PromptEmbedding;
  /** Absent: no guidance, one run a step instead of two. */
  readonly negative?: PromptEmbedding;
  readonly scale: number;
}

/** Original size, crop's corner and target size, in pixels: section 2.2 of https://arxiv.org/abs/2307.01952, uncropped. */
export function timeIds(width: number, height: number): readonly number[] {
  return [height, width, 0, 0, height, width];
}

/**
 * What the UNet puts out for one step, guided: u + s · (c − u), https://arxiv.org/abs/2207.12598. The two halves are runs of
 * their own: on a CPU that takes no longer than one batch of two, needs half the memory, and an abort is seen in between.
 */
export async function predictOutput(
  unet: ModelSession,
  input: DenoiserInput,
  { positive, negative, scale }: Guidance,
  signal: AbortSignal,
): Promise<Float32Array> {
  const { guidanceEmbedding } = input;
  const run = async ({ context, pooled }: PromptEmbedding): Promise<Float32Array> => {
    const feeds = {
      sample: { data: input.latents, shape: input.latentShape },
      timestep: { data: [input.timestep], shape: [1] },
      encoder_hidden_states: context,
      text_embeds: pooled,
      time_ids: { data: input.timeIds, shape: [1, input.timeIds.length] },
      ...(guidanceEmbedding && {
        timestep_cond: { data: guidanceEmbedding, shape: [1, guidanceEmbedding.length] },
      }),
    };
    return (await runSubModel(unet, feeds, ["out_sample"], signal))("out_sample").data;
  };
  if (negative === undefined) {
    return run(positive);
  }
  const without = await run(negative);
  const conditioned = await run(positive);
  const factor = Math.fround(scale);
  return without.map((value, i) => value + Math.fround(factor * Math.fround((conditioned[i] ?? 0) - value)));
}
