import { LRUCache } from "lru-cache";
import type { AdaptedModels } from "./lora-sets.js";
import type { ModelDescription } from "./model-description.js";
import { type FloatTensor, runSubModel } from "./sessions.js";
import { hiddenStatesOutput, type SubModels } from "./sub-models.js";

/** A prompt as the UNet takes it. */
export interface PromptEmbedding {
  /** Hidden states of both text encoders side by side: [1, tokens, width of the first + width of the second]. */
  readonly context: FloatTensor;
  /** The second encoder's projected summary: [1, projection]. */
  readonly pooled: FloatTensor;
}

export interface EncodedPrompt extends PromptEmbedding {
  /** Tokens that did not fit, of the tokenizer that lost more. */
  readonly truncatedTokens: number;
  /** Nothing was run for it: it was encoded before. */
  readonly cached: boolean;
}

export interface EncodeOptions {
  readonly signal: AbortSignal;
  /** See `GenerationRequest.clipSkip`; not above the model's maximum. @default 0 */
  readonly clipSkip?: number;
  /** Text encoders with LoRAs. @default the model's own */
  readonly adapted?: Pick<AdaptedModels, "textEncoders" | "textKey">;
}

export interface PromptEncoder {
  /** Turns text into embeddings: with one run of each text encoder, or from the cache. The embeddings are not to be written to. */
  encode(text: string, options: EncodeOptions): Promise<EncodedPrompt>;
  /** All zeros, of the same shapes: what SDXL was trained on for "no prompt". */
  zerosLike(embedding: PromptEmbedding): PromptEmbedding;
}

export interface PromptEncoderOptions {
  /** Most bytes of all embeddings that are kept. @default 64 MiB, about a hundred prompts of SDXL base 1.0 */
  readonly cacheBytes?: number;
}

/**
 * Makes the encoder of one model's prompts. It keeps the embeddings that were used last, by the token ids and the LoRAs of the text
 * encoders, so that texts which differ in nothing that the model sees are one.
 */
export function createPromptEncoder(
  model: ModelDescription,
  { textEncoders }: Pick<SubModels, "textEncoders">,
  { cacheBytes = 64 * 2 ** 20 }: PromptEncoderOptions = {},
): PromptEncoder {
  const cache = new LRUCache<string, PromptEmbedding>({
    maxSize: cacheBytes,
    sizeCalculation: ({ context, pooled }) => context.data.byteLength + pooled.data.byteLength,
  });
  let zeros: PromptEmbedding | undefined;

  async function runEncoder(
    index: 0 | 1,
    ids: readonly number[],
    outputs: readonly string[],
    { signal, clipSkip, adapted }: EncodeOptions,
  ) {
    const hiddenName = hiddenStatesOutput(model.textEncoders[index].num_hidden_layers, clipSkip);
    const feeds = { input_ids: { data: ids, shape: [1, ids.length] } };
    const read = await runSubModel(
      (adapted?.textEncoders ?? textEncoders)[index],
      feeds,
      [hiddenName, ...outputs],
      signal,
    );
    return { read, hidden: read(hiddenName) };
  }

  return {
    async encode(text, options) {
      const [first, second] = [model.tokenizers[0](text), model.tokenizers[1](text)];
      const truncatedTokens = Math.max(first.truncatedTokens, second.truncatedTokens);
      const key = `${first.ids} ${second.ids} ${options.clipSkip ?? 0} ${options.adapted?.textKey ?? ""}`;
      const known = cache.get(key);
      if (known !== undefined) {
        return { ...known, truncatedTokens, cached: true };
      }
      const { hidden } = await runEncoder(0, first.ids, [], options);
      const projected = await runEncoder(1, second.ids, ["text_embeds"], options);
      const embedding = { context: joinRows(hidden, projected.hidden), pooled: projected.read("text_embeds") };
      cache.set(key, embedding);
      return { ...embedding, truncatedTokens, cached: false };
    },
    zerosLike({ context, pooled }) {
      const likewise = ({ data, shape }: FloatTensor): FloatTensor => ({ data: new Float32Array(data.length), shape });
      zeros ??= { context: likewise(context), pooled: likewise(pooled) };
      return zeros;
    },
  };
}

/** Concatenates along the last axis. */
function joinRows(left: FloatTensor, right: FloatTensor): FloatTensor {
  const leftWidth = left.shape.at(-1) ?? 0;
  const rightWidth = right.shape.at(-1) ?? 0;
  const width = leftWidth + rightWidth;
  const rows = left.data.length / leftWidth;
  const data = new Float32Array(rows * width);
  for (let row = 0; row < rows; row++) {
    data.set(left.data.subarray(row * leftWidth, (row + 1) * leftWidth), row * width);
    data.set(right.data.subarray(row * rightWidth, (row + 1) * rightWidth), row * width + leftWidth);
  }
  return { data, shape: [...left.shape.slice(0, -1), width] };
}
