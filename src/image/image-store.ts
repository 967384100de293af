import { createHash } from "node:crypto";
import { type EncodedImage, extensionOf, type ImageFormat } from "./encode-image.js";

/** An image as it comes back from a store. */
export interface StoredImage {
  readonly bytes: Uint8Array;
  readonly format: ImageFormat;
}

/** Where images wait to be fetched. */
export interface ImageStore {
  /**
   * Keeps an image and returns its file name, which is made from its content: equal images share one.
   *
   * @throws StoreFullError when there is no space for it, Error when it cannot be kept for another reason; nothing is then left behind.
   */
  put(image: EncodedImage): Promise<string>;
  /** The image of that name; undefined when there is none, when it expired, or when the name is not one of the store's. */
  get(fileName: string): Promise<StoredImage | undefined>;
}

/**
 * An image's file name, made from its content: 128 bits of the bytes' SHA-256 in hexadecimal, and an extension.
 *
 * @param image the image.
 */
export function imageFileNameOf({ bytes, format }: EncodedImage): string {
  return `${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}.${extensionOf(format)}`;
}

/** The names that `imageFileNameOf` gives. Never a path. */
export const imageFileName = /^[0-9a-f]{32}\.(?:png|jpg|webp)$/;
