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
