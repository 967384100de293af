import { extensionOf, type ImageFormat } from "../../image/image-format.js";

const maxLength = 60;

/**
 * A file name for the picture of a prompt: its letters and digits with dashes between, such as `a-red-heart.png`. Never a path, never
 * hidden; `picture` where the prompt has neither letters nor digits.
 */
export function pictureFileName(prompt: string, format: ImageFormat = "png"): string {
  const words =
    prompt
      .normalize("NFC")
      .toLowerCase()
      .match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  let name = "";
  for (const word of words) {
    const longer = name === "" ? [...word].slice(0, maxLength).join("") : `${name}-${word}`;
    if ([...longer].length > maxLength) {
      break;
    }
    name = longer;
  }
  return `${name === "" ? "picture" : name}.${extensionOf(format)}`;
}
