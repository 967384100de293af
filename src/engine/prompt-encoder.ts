import type { ModelFolder } from "./model-folder.js";
import { runSubModel } from "./run-sub-model.js";
import type { FloatTensor } from "./sessions.js";
import { penultimateOutput, type SubModels } from "./sub-models.js";

/** A prompt as the UNet takes it. */
export interface PromptEmbedding {
  /** Hidden states of both text encoders side by side: [1, tokens, width of the first + width of the second]. */
  readonly context: FloatTensor;
  /** The second encoder's projected summary: [1, projection]. */
  readonly pooled: FloatTensor;
  /** Tokens that did not fit, of the tokenizer that lost more. */
  readonly truncatedTokens: number;
}

/** Turns text into embeddings with two runs, one of each text encoder. */
export type PromptEncoder = (text: string, signal: AbortSignal) => Promise<PromptEmbedding>;

export function createPromptEncoder(model: ModelFolder, { textEncoders }: SubModels): PromptEncoder {
  async function runEncoder(index: 0 | 1, text: string, outputs: readonly string[], signal: AbortSignal) {
    const { ids, truncatedTokens } = model.tokenizers[index](text);
    const hiddenName = penultimateOutput(model.textEncoders[index].num_hidden_layers);
    const feeds = { input_ids: { data: ids, shape: [1, ids.length] } };
    const read = await runSubModel(textEncoders[index], feeds, [hiddenName, ...outputs], signal);
    return { read, hidden: read(hiddenName), truncatedTokens };
  }

  return async (text, signal) => {
    const first = await runEncoder(0, text, [], signal);
    const second = await runEncoder(1, text, ["text_embeds"], signal);
    return {
      context: joinRows(first.hidden, second.hidden),
      pooled: second.read("text_embeds"),
      truncatedTokens: Math.max(first.truncatedTokens, second.truncatedTokens),
    };
  };
}

/** All zeros, of the same shapes: what SDXL was trained on for "no prompt". */
export function zeroEmbedding({ context, pooled }: PromptEmbedding): PromptEmbedding {
  const zeros = ({ data, shape }: FloatTensor): FloatTensor => ({ data: new Float32Array(data.length), shape });
  return { context: zeros(context), pooled: zeros(pooled), truncatedTokens: 0 };
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
