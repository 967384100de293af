import type { EncodedImage, ImageFormat } from "./image-format.js";

/** A picture as it comes back from a store. */
export interface StoredImage {
  readonly bytes: Uint8Array;
  readonly format: ImageFormat;
}

/** Where pictures wait to be fetched. */
export interface ImageStore {
  /**
   * Keeps a picture and returns its file name, which is made from its content: equal pictures share one.
   *
   * @throws Error when the picture cannot be kept; nothing is then left behind.
   */
  put(image: EncodedImage): Promise<string>;
  /** The picture of that name; undefined when there is none, when it expired, or when the name is not one of the store's. */
  get(fileName: string): Promise<StoredImage | undefined>;
}

/** File names that stores give: 128 bits of the content's SHA-256 in hexadecimal, and an extension. Never a path. */
export const imageFileName = /^[0-9a-f]{32}\.(?:png|jpg|webp)$/;
