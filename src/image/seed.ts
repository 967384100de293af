import { randomInt } from "node:crypto";

/**
 * The seed of a request: its own, or one drawn at random where it names none. The pipeline draws it, so that a retry generates the same
 * image; the worker draws only for callers of its own.
 */
export function seedOf(options: { readonly seed?: number | undefined } | undefined): number {
  return options?.seed ?? randomInt(2 ** 32);
}
