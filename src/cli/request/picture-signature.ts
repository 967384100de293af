import type { ImageFormat } from "../../image/encode-image.js";

/** How a file of each format begins, in hexadecimal. */
const signatures: Record<ImageFormat, RegExp> = {
  png: /^89504e470d0a1a0a/,
  jpeg: /^ffd8ff/,
  // RIFF, any length, WEBP.
  webp: /^52494646.{8}57454250/,
};

/** Whether bytes begin as every file of a format does. */
export function beginsLike(format: ImageFormat, bytes: Uint8Array): boolean {
  return signatures[format].test(Buffer.from(bytes.subarray(0, 12)).toString("hex"));
}
