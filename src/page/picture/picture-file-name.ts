import { promptSlug } from "../../client/prompt-slug.js";

const extensions: ReadonlyMap<string, string> = new Map([
  ["image/png", "png"],
  ["image/jpeg", "jpg"],
  ["image/webp", "webp"],
]);

/** A file name that says what the picture is and how to get it again, such as `a-red-heart-seed-7.png`; see {@link promptSlug}. */
export function pictureFileName(prompt: string, seed: number, contentType: string): string {
  return `${promptSlug(prompt)}-seed-${seed}.${extensions.get(contentType) ?? "png"}`;
}
