import { randomInt } from "node:crypto";

/**
 * Return the seed of a request, or a random one. The pipeline sets it, so that a retry generates the same image; the worker does so only for
 * direct callers.
 */
export function seedOf(options: { readonly seed?: number | undefined } | undefined): number {
  return options?.seed ?? randomInt(2 ** 32);
}
