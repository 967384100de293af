import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { z } from "zod";
import { createTorchGenerator } from "../../src/engine/torch-generator.js";
import { floatsFromBase64, readGolden } from "../fixtures/golden-file.js";

const golden = await readGolden(
  "engine/randn.json",
  z.object({
    cases: z.array(
      z.object({ seed: z.number(), draws: z.array(z.object({ shape: z.array(z.number()), values: z.string() })) }),
    ),
  }),
);

describe("torch generator", () => {
  for (const { seed, draws } of golden.cases) {
    it(`generator returns torch's bits for seed ${seed}: ${draws.map(({ shape }) => shape.join("×")).join(", then ")}`, () => {
      const generator = createTorchGenerator(seed);
      for (const { values } of draws) {
        const expected = floatsFromBase64(values);
        // Bits and not values: −0 is not 0 here.
        assert.deepEqual(new Uint32Array(generator.randn(expected.length).buffer), new Uint32Array(expected.buffer));
      }
    });
  }

  it("generator returns other noise for another seed", () => {
    assert.notDeepEqual(createTorchGenerator(1).randn(64), createTorchGenerator(2).randn(64));
  });

  it("generator rejects a seed that is not a 32-bit integer", () => {
    for (const seed of [-1, 0.5, 2 ** 32, Number.NaN]) {
      assert.throws(() => createTorchGenerator(seed), RangeError);
    }
  });
});
