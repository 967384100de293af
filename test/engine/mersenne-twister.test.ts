import assert from "node:assert/strict";
import { it } from "node:test";
import { createMersenneTwister } from "../../src/engine/torch-generator.js";

// The C++ standard, [rand.predef]: the 10000th output of a default-seeded mt19937 is 4123659995.
it("Mersenne Twister returns the outputs of the reference for its default seed", () => {
  const next = createMersenneTwister(5489);
  assert.deepEqual([next(), next(), next()], [3499211612, 581869302, 3890346734]);
  for (let i = 3; i < 9999; i++) {
    next();
  }
  assert.equal(next(), 4123659995);
});
