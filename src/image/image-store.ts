import { createHash } from "node:crypto";
import { type EncodedImage, extensionOf, type ImageFormat } from "./image-format.js";

/** Image read from a store. */
export interface StoredImage {
  readonly bytes: Uint8Array;
  readonly format: ImageFormat;
}

/** Image store. */
export interface ImageStore {
  /**
   * Stores an image and returns its file name, which is derived from its content: equal images share one.
   *
   * @throws ImageStoreError if there is no space; Error for other reasons. Nothing is stored then.
   */
  put(image: EncodedImage): Promise<string>;
  /** Returns the image of a file name; undefined if missing, expired or not a name of the store. */
  get(fileName: string): Promise<StoredImage | undefined>;
  /** Makes a URL under which the store itself serves an image. Absent: the service serves it under `/images/`. */
  readonly urlOf?: ((fileName: string) => Promise<string>) | undefined;
}

/**
 * Derive an image's file name from its content: 128 bits of the bytes' SHA-256 in hexadecimal, and an extension.
 */
export function imageFileNameOf({ bytes, format }: EncodedImage): string {
  return `${createHash("sha256").update(bytes).digest("hex").slice(0, 32)}.${extensionOf(format)}`;
}

/** Pattern of {@link imageFileNameOf}'s results. Never a path. */
export const imageFileName = /^[0-9a-f]{32}\.(?:png|jpg|webp)$/;
