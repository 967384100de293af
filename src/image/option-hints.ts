import type { DescField } from "@bufbuild/protobuf";

/** By the names of generation options whose JSON form callers of other image services write otherwise. */
const hints: ReadonlyMap<string, string> = new Map([
  ["seed", "a seed is a whole number from 0 to 4294967295; leave it out for a random one"],
  ["init_image", "send the bytes of the file in base64, without data: before them"],
]);

/** What a generation option takes, for the error of a JSON value that its type cannot hold, such as the seed -1. */
export function optionHint({ name, parent }: DescField): string | undefined {
  return parent.typeName === "throughline.v1.GenerationOptions" ? hints.get(name) : undefined;
}
