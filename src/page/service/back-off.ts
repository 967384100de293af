const firstMs = 1000;
const growth = 1.6;
const maxMs = 15_000;

/**
 * How long to wait before the next try: 1 s after the first failure, 1.6 times as long after each further one, at most 15 s, a fifth more or
 * less, so that the pages of many people do not come back in the same moment.
 *
 * @param failures in a row, from 1.
 * @param random 0 to 1.
 */
export function backOffMs(failures: number, random: number): number {
  const base = Math.min(maxMs, firstMs * growth ** (failures - 1));
  return Math.round(base * (0.8 + 0.4 * random));
}
