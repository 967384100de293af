import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { createClipTokenizer, rankPairs } from "../../src/engine/clip-tokenizer.js";
import { readModel } from "../../src/engine/model-folder.js";
import { createPromptEncoder, type PromptEncoderOptions } from "../../src/engine/prompt-encoder.js";
import type { ModelSession } from "../../src/engine/sessions.js";
import { endToken, makeClipVocabulary, startToken } from "../fixtures/clip-vocabulary.js";
import { readGolden } from "../fixtures/golden-file.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const { vocabulary, merges } = makeClipVocabulary();

function makeTokenizer(padding: string) {
  return createClipTokenizer({
    vocabulary: new Map(Object.entries(vocabulary)),
    ranks: rankPairs(merges.slice(1)),
    maximumTokens: 77,
    specialTokens: { start: startToken, end: endToken, padding, unknown: endToken, normalized: new Set() },
  });
}

const golden = await readGolden(
  "engine/clip-tokens.json",
  z.object({
    cases: z.array(
      z.object({ pad: z.string(), text: z.string(), ids: z.array(z.number()), untruncatedLength: z.number() }),
    ),
  }),
);

const model = await readModel(await makeSdxlFolder(join(await temporaryFolder(), "model")));

describe("CLIP tokenizer", () => {
  for (const { pad, text, ids, untruncatedLength } of golden.cases) {
    it(`tokenizer splits ${JSON.stringify(text.slice(0, 40))} like transformers, padding with ${pad}`, () => {
      const tokenized = makeTokenizer(pad)(text);
      assert.equal(tokenized.ids.length, 77);
      assert.deepEqual(tokenized.ids.slice(0, ids.length), ids);
      const padding = tokenized.ids.slice(ids.length);
      assert.ok(
        padding.every((id) => id === vocabulary[pad]),
        "the rest is padding",
      );
      assert.equal(tokenized.truncatedTokens, Math.max(0, untruncatedLength - 77));
    });
  }

  it("tokenizer splits 508 unusual strings like transformers, including special tokens in any case", async () => {
    const odd = await readGolden(
      "engine/clip-odd-tokens.json",
      z.object({ cases: z.array(z.object({ text: z.string(), ids: z.tuple([z.string(), z.string()]) })) }),
    );
    const { tokenizers } = await readModel(fileURLToPath(new URL("../../models/emoji-xl", import.meta.url)));
    assert.equal(odd.cases.length, 508);
    for (const { text, ids } of odd.cases) {
      for (const [index, tokenizer] of tokenizers.entries()) {
        const expected = ids[index]?.split(" ").map(Number) ?? [];
        assert.deepEqual(tokenizer(text).ids.slice(0, expected.length), expected, JSON.stringify(text));
      }
    }
  });

  it("tokenizer rejects a vocabulary without the special tokens", () => {
    const specialTokens = {
      start: startToken,
      end: endToken,
      padding: "<|nothing|>",
      unknown: endToken,
      normalized: new Set<string>(),
    };
    assert.throws(
      () =>
        createClipTokenizer({
          vocabulary: new Map(Object.entries(vocabulary)),
          ranks: rankPairs([]),
          maximumTokens: 77,
          specialTokens,
        }),
      /"<\|nothing\|>" is not in the vocabulary/,
    );
  });
});

const tokens = 77;
/** Bytes of one embedding of these encoders: two and three numbers a token, and four of the second's summary. */
const embeddingBytes = (tokens * (2 + 3) + 4) * 4;

/** The encoder over graphs that count their runs, and put the run's number everywhere. */
function countingEncoder(options?: PromptEncoderOptions) {
  let runs = 0;
  /** Outputs that each run was asked for. */
  const wanted: (readonly string[])[] = [];
  const session = (width: number): ModelSession => ({
    inputs: new Map(),
    outputs: [],
    async run(_feeds, outputs) {
      wanted.push(outputs);
      const run = ++runs;
      return (name) => {
        const shape = name === "text_embeds" ? [1, 4] : [1, tokens, width];
        return { data: new Float32Array(shape.reduce((product, length) => product * length)).fill(run), shape };
      };
    },
    release: async () => {},
  });
  const encoder = createPromptEncoder(model, { textEncoders: [session(2), session(3)] }, options);
  const { signal } = new AbortController();
  const encode = (text: string, clipSkip?: number) =>
    encoder.encode(text, { signal, ...(clipSkip !== undefined && { clipSkip }) });
  return { encode, encoder, runs: () => runs, wanted };
}

describe("prompt encoder", () => {
  it("prompt encoder concatenates the hidden states of both encoders and uses the pooled output of the second", async () => {
    const { context, pooled, cached } = await countingEncoder().encode("a cat");
    assert.deepEqual([...context.data.subarray(0, 7)], [1, 1, 2, 2, 2, 1, 1]);
    assert.deepEqual(
      [context.shape, pooled.shape, [...pooled.data], cached],
      [[1, 77, 5], [1, 4], [2, 2, 2, 2], false],
    );
  });

  it("prompt encoder encodes equivalent texts once", async () => {
    const { encode, runs } = countingEncoder();
    const first = await encode("a red  HEART");
    const again = await encode(" A red heart");
    assert.equal(again.context, first.context);
    assert.equal(again.pooled, first.pooled);
    assert.deepEqual([first.cached, again.cached, runs()], [false, true, 2]);
    await encode("a red cat");
    assert.equal(runs(), 4);
  });

  it("prompt encoder takes the hidden states of earlier layers with clipSkip, and caches them apart", async () => {
    const { encode, runs, wanted } = countingEncoder();
    await encode("a cat");
    const skipped = await encode("a cat", 1);
    assert.deepEqual(wanted, [
      ["hidden_states.1"],
      ["hidden_states.1", "text_embeds"],
      ["hidden_states.0"],
      ["hidden_states.0", "text_embeds"],
    ]);
    assert.equal((await encode("a cat", 1)).context, skipped.context);
    assert.deepEqual([(await encode("a cat", 0)).cached, runs()], [true, 4]);
  });

  it("prompt encoder counts the truncated tokens of each text", async () => {
    const { encode, runs } = countingEncoder();
    assert.equal((await encode("red ".repeat(80))).truncatedTokens, 5);
    const longer = await encode("red ".repeat(90));
    assert.deepEqual([longer.truncatedTokens, longer.cached, runs()], [15, true, 2]);
  });

  it("prompt encoder caches the most recently used embeddings within a byte limit", async () => {
    const { encode } = countingEncoder({ cacheBytes: 2 * embeddingBytes });
    await encode("red");
    await encode("heart");
    assert.equal((await encode("red")).cached, true);
    await encode("cat");
    assert.deepEqual([(await encode("red")).cached, (await encode("heart")).cached], [true, false]);
  });

  it("prompt encoder caches nothing for an aborted text", async () => {
    const { encoder, encode } = countingEncoder();
    await assert.rejects(encoder.encode("red", { signal: AbortSignal.abort(new Error("enough")) }), /enough/);
    assert.equal((await encode("red")).cached, false);
  });

  it("prompt encoder creates zeros of an embedding's shapes once", async () => {
    const { encoder, encode } = countingEncoder();
    const embedding = await encode("red");
    const zeros = encoder.zerosLike(embedding);
    assert.deepEqual([zeros.context.shape, zeros.pooled.shape], [embedding.context.shape, embedding.pooled.shape]);
    assert.ok([...zeros.context.data, ...zeros.pooled.data].every((value) => value === 0));
    assert.equal(encoder.zerosLike(await encode("cat")), zeros);
  });
});
