import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fusedMultiplyAdd, logarithm, sineAndCosine } from "../../src/engine/floating-point.js";
import { createMersenneTwister } from "../../src/engine/torch-generator.js";

/** a · b + c in whole numbers of 2^-298, then rounded to float32 once. */
function exactly(a: number, b: number, c: number): number {
  const scaled = (value: number, bits: number) => {
    // A float32 is a whole number of 2^-149.
    const whole = BigInt(value * 2 ** 100) * 2n ** 49n;
    return whole << BigInt(bits);
  };
  const sum = scaled(a, 0) * scaled(b, 0) + scaled(c, 149);
  const magnitude = sum < 0n ? -sum : sum;
  if (magnitude === 0n) {
    return 0;
  }
  const excess = magnitude.toString(2).length - 24;
  if (excess <= 0) {
    return Math.fround(Number(sum) * 2 ** -149 * 2 ** -149);
  }
  const kept = magnitude >> BigInt(excess);
  const rest = magnitude - (kept << BigInt(excess));
  const half = 1n << BigInt(excess - 1);
  const rounded = rest > half || (rest === half && (kept & 1n) === 1n) ? kept + 1n : kept;
  return Number(sum < 0n ? -rounded : rounded) * 2 ** (excess - 298);
}

describe("fused multiply-add", () => {
  it("fused multiply-add rounds once where double precision meets a midpoint", () => {
    // 1 + 2^-24 is the midpoint between 1 and its successor; the tiny rest decides.
    const tiny = 2 ** -60;
    assert.equal(fusedMultiplyAdd(2 ** -24, 1 + 2 ** -23, 1), 1 + 2 ** -23);
    assert.equal(fusedMultiplyAdd(2 ** -12, 2 ** -12, 1), 1);
    assert.equal(Math.fround(1 + 2 ** -24 + tiny), 1, "what a second rounding would make of it");
    assert.equal(fusedMultiplyAdd(1 + 2 ** -20, 2 ** -24, 1), 1 + 2 ** -23);
    assert.equal(fusedMultiplyAdd(-1 - 2 ** -20, 2 ** -24, -1), -1 - 2 ** -23);
  });

  it("fused multiply-add equals exact arithmetic on 20000 numbers, a fifth of them near a midpoint", () => {
    const next = createMersenneTwister(11);
    const float = () => Math.fround((next() / 2 ** 31 - 1) * 2 ** ((next() % 20) - 10));
    for (let i = 0; i < 20000; i++) {
      let [a, b, c] = [float(), float(), float()];
      if (i % 5 === 0) {
        // A product far below the sum's last place, on top of exactly half of it.
        [a, b, c] = [
          Math.fround(1 + (next() % 1000) * 2 ** -23),
          2 ** -24,
          Math.fround(1 + (next() % 2 ** 22) * 2 ** -22),
        ];
      }
      assert.equal(fusedMultiplyAdd(a, b, c), exactly(a, b, c), `${a} · ${b} + ${c}`);
    }
  });
});

describe("polynomials", () => {
  it("polynomials are close to the true functions", () => {
    for (let i = 1; i <= 1000; i++) {
      const x = Math.fround(i / 1000);
      assert.ok(Math.abs(logarithm(x) - Math.log(x)) <= 1e-6 * Math.max(1, Math.abs(Math.log(x))), `log ${x}`);
      const angle = Math.fround(2 * Math.PI * x);
      const [sine, cosine] = sineAndCosine(angle);
      assert.ok(Math.abs(sine - Math.sin(angle)) < 3e-7, `sin ${angle}`);
      assert.ok(Math.abs(cosine - Math.cos(angle)) < 3e-7, `cos ${angle}`);
    }
  });
});
