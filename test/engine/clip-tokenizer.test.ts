import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { z } from "zod";
import { createClipTokenizer } from "../../src/engine/clip-tokenizer.js";
import { readModel } from "../../src/engine/model-folder.js";
import { endToken, makeClipVocabulary, startToken } from "../fixtures/clip-vocabulary.js";
import { readGolden } from "../fixtures/golden-file.js";

const { vocabulary, merges } = makeClipVocabulary();

function makeTokenizer(padding: string) {
  return createClipTokenizer({
    vocabulary: new Map(Object.entries(vocabulary)),
    merges: merges.slice(1),
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
          merges: [],
          maximumTokens: 77,
          specialTokens,
        }),
      /"<\|nothing\|>" is not in the vocabulary/,
    );
  });
});
