import { promptSlug } from "../../client/prompt-slug.js";
import { extensionOf, type ImageFormat } from "../../image/encode-image.js";

/** A file name for the picture of a prompt, such as `a-red-heart.png`; see {@link promptSlug}. */
export function pictureFileName(prompt: string, format: ImageFormat = "png"): string {
  return `${promptSlug(prompt)}.${extensionOf(format)}`;
}
