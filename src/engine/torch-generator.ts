import { logarithm, sineAndCosine } from "./floating-point.js";

/** Draws standard normal numbers; each draw continues after the last one. */
export interface NoiseGenerator {
  /** As many values as a `torch.randn` of that many elements, in its order. */
  randn(length: number): Float32Array;
}

const blockLength = 16;
const half = blockLength / 2;
const twoPi = Math.fround(2 * Math.PI);

/**
 * torch's generator on the CPU: `createTorchGenerator(seed).randn(n)` equals
 * `torch.randn(n, generator=torch.Generator("cpu").manual_seed(seed))` bit for bit on x86-64 with AVX2. Elsewhere torch uses
 * the C library's functions and differs from this by about 1e-6.
 *
 * Source: aten/src/ATen/native/cpu/DistributionTemplates.h (normal_fill) and ATen/core/DistributionsHelper.h.
 *
 * @param seed 32-bit unsigned integer, of which torch uses the low 32 bits too.
 * @throws RangeError for any other seed.
 */
export function createTorchGenerator(seed: number): NoiseGenerator {
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) {
    throw new RangeError(`a seed is an integer from 0 to 4294967295, not ${seed}`);
  }
  const nextUint32 = createMersenneTwister(seed);
  const nextUniform = (): number => (nextUint32() & 0xffffff) / 2 ** 24;
  /** 53 random bits of two draws, the first one being the high half. */
  const nextDoubleUniform = (): number => {
    const high = nextUint32();
    return ((high & 0x1fffff) * 2 ** 32 + nextUint32()) / 2 ** 53;
  };
  let keptSample: number | undefined;

  /** The way of fewer than 16 values: Box–Muller in double precision; the sine waits for the next value. */
  function drawSingle(): number {
    if (keptSample !== undefined) {
      const sample = keptSample;
      keptSample = undefined;
      return sample;
    }
    const angle = 2 * Math.PI * nextDoubleUniform();
    const radius = Math.sqrt(-2 * Math.log1p(-nextDoubleUniform()));
    keptSample = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  return {
    randn(length) {
      const values = new Float32Array(length);
      if (length < blockLength) {
        return values.map(drawSingle);
      }
      for (let i = 0; i < length; i++) {
        values[i] = nextUniform();
      }
      for (let from = 0; from + blockLength <= length; from += blockLength) {
        transformBlock(values, from);
      }
      if (length % blockLength !== 0) {
        // torch draws the last 16 places anew, over values that are done already.
        const from = length - blockLength;
        for (let i = from; i < length; i++) {
          values[i] = nextUniform();
        }
        transformBlock(values, from);
      }
      return values;
    },
  };
}

/** Box–Muller over 16 uniform values: value j of the first half with value j of the second. */
function transformBlock(values: Float32Array, from: number): void {
  for (let j = from; j < from + half; j++) {
    const radius = Math.fround(Math.sqrt(Math.fround(-2 * logarithm(Math.fround(1 - (values[j] ?? 0))))));
    const [sine, cosine] = sineAndCosine(Math.fround(twoPi * (values[j + half] ?? 0)));
    values[j] = radius * cosine;
    values[j + half] = radius * sine;
  }
}

const stateLength = 624;
const shiftLength = 397;

/** Draws uniform 32-bit unsigned integers. */
export type Uint32Source = () => number;

/**
 * MT19937 of Matsumoto and Nishimura (1998), seeded by `init_genrand` as in torch and numpy.
 *
 * @param seed 32-bit unsigned integer.
 */
export function createMersenneTwister(seed: number): Uint32Source {
  const state = new Uint32Array(stateLength);
  state[0] = seed;
  for (let i = 1; i < stateLength; i++) {
    const previous = state[i - 1] ?? 0;
    state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
  }
  let next = stateLength;

  function refill(): void {
    for (let i = 0; i < stateLength; i++) {
      const high = (state[i] ?? 0) & 0x80000000;
      const low = (state[(i + 1) % stateLength] ?? 0) & 0x7fffffff;
      const mixed = (high | low) >>> 1;
      state[i] = (state[(i + shiftLength) % stateLength] ?? 0) ^ mixed ^ (low & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  }

  return () => {
    if (next === stateLength) {
      refill();
    }
    let value = state[next++] ?? 0;
    value ^= value >>> 11;
    value ^= (value << 7) & 0x9d2c5680;
    value ^= (value << 15) & 0xefc60000;
    value ^= value >>> 18;
    return value >>> 0;
  };
}
