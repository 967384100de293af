import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readModel } from "../../src/engine/model-folder.js";
import { createPromptEncoder, type PromptEncoderOptions } from "../../src/engine/prompt-encoder.js";
import type { ModelSession } from "../../src/engine/sessions.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const tokens = 77;
/** Bytes of one embedding of these encoders: two and three numbers a token, and four of the second's summary. */
const embeddingBytes = (tokens * (2 + 3) + 4) * 4;

const model = await readModel(await makeSdxlFolder(join(await temporaryFolder(), "model")));

/** The encoder over graphs that count their runs, and put the run's number everywhere. */
function countingEncoder(options?: PromptEncoderOptions) {
  let runs = 0;
  const session = (width: number): ModelSession => ({
    inputs: new Map(),
    outputs: [],
    async run() {
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
  return { encode: (text: string) => encoder.encode(text, signal), encoder, runs: () => runs };
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
    await assert.rejects(encoder.encode("red", AbortSignal.abort(new Error("enough"))), /enough/);
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
