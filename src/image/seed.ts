import { randomInt } from "node:crypto";
import type { DescField } from "@bufbuild/protobuf";

/**
 * Return the seed of a request, or a random one. The pipeline sets it, so that a retry generates the same image; the worker does so only for
 * direct callers.
 */
export function seedOf(options: { readonly seed?: number | undefined } | undefined): number {
  return options?.seed ?? randomInt(2 ** 32);
}

/** What a seed takes, for the error of a JSON value such as -1, which other image services read as random. */
export function seedHint({ name, parent }: DescField): string | undefined {
  return name === "seed" && parent.typeName === "throughline.v1.GenerationOptions"
    ? "a seed is a whole number from 0 to 4294967295; leave it out for a random one"
    : undefined;
}
