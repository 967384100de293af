import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { z } from "zod";
import { guidanceEmbedding } from "../../src/engine/denoiser.js";
import { floatsFromBase64, readGolden } from "../fixtures/golden-file.js";

const golden = await readGolden(
  "engine/guidance-embedding.json",
  z.object({ cases: z.array(z.object({ scale: z.number(), width: z.number(), values: z.string() })) }),
);

describe("guidance embedding compared with diffusers", () => {
  for (const { scale, width, values } of golden.cases) {
    it(`guidance embedding of scale ${scale} and width ${width} is the same`, () => {
      const expected = floatsFromBase64(values);
      const actual = guidanceEmbedding(scale, width);
      assert.equal(actual.length, expected.length);
      // Angles go up to 1000 · (scale − 1), and the last place of torch's exponential is worth 2^-23 of them.
      const tolerance = 1e-6 + 1000 * (scale - 1) * 2 ** -23;
      const worst = expected.reduce((most, value, i) => Math.max(most, Math.abs(value - (actual[i] ?? Number.NaN))), 0);
      assert.ok(worst <= tolerance, `off by ${worst}, more than ${tolerance}`);
    });
  }
});
