import assert from "node:assert/strict";
import { describe, it } from "node:test";
import * as z from "zod";
import {
  decodeFloat16,
  encodeFloat16,
  fusedMultiplyAdd,
  logarithm,
  sineAndCosine,
} from "../../src/engine/floating-point.js";
import { createMersenneTwister, createTorchGenerator } from "../../src/engine/torch-generator.js";
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

// The C++ standard, [rand.predef]: the 10000th output of a default-seeded mt19937 is 4123659995.
it("Mersenne Twister returns the outputs of the reference for its default seed", () => {
  const next = createMersenneTwister(5489);
  assert.deepEqual([next(), next(), next()], [3499211612, 581869302, 3890346734]);
  for (let i = 3; i < 9999; i++) {
    next();
  }
  assert.equal(next(), 4123659995);
});

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

const one = (value: number): number => encodeFloat16(Float32Array.of(value))[0] ?? -1;

describe("float16", () => {
  it("float16 round trip keeps the bits of every number", () => {
    const all = Uint16Array.from({ length: 0x10000 }, (_, bits) => bits).filter((bits) => (bits & 0x7fff) <= 0x7c00);
    assert.deepEqual(encodeFloat16(decodeFloat16(all)), all);
  });

  it("float16 rounds to nearest, ties to even, and overflows to infinity", () => {
    assert.equal(one(1), 0x3c00);
    assert.equal(one(1 + 2 ** -11), 0x3c00);
    assert.equal(one(1 + 2 ** -11 + 2 ** -20), 0x3c01);
    assert.equal(one(1 + 3 * 2 ** -11), 0x3c02);
    assert.equal(one(-65519), 0xfbff);
    assert.equal(one(65520), 0x7c00);
    assert.equal(one(2 ** -25), 0);
    assert.equal(one(2 ** -25 * 1.5), 1);
    assert.equal(one(2 ** -14 - 2 ** -26), 0x0400);
    assert.equal(one(-0), 0x8000);
  });

  it("float16 keeps NaN", () => {
    assert.ok(Number.isNaN(decodeFloat16(encodeFloat16(Float32Array.of(Number.NaN)))[0]));
  });
});
