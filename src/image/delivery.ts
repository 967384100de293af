import { contentTypeOf, type EncodedImage, toDataUri } from "./encode-image.js";
import { imageUrl } from "./image-route.js";
import { type ImageStore, imageFileNameOf } from "./image-store.js";

/** A store, and the base URL under which its images are served. */
export interface ImageTarget {
  readonly store: ImageStore;
  readonly baseUrl: string;
}

/** How an image reaches the caller: as bytes, in a `data:` URI, or by a URL of a store. */
export type ImageDelivery = "inline" | "data-uri" | ImageTarget;

/** What a response says of an image. */
export interface DeliveredImage {
  /** Empty where `data` holds the image. */
  readonly url: string;
  /** The encoded image; empty where `url` leads to it. */
  readonly data: Uint8Array;
  readonly contentType: string;
  readonly fileName: string;
  /** Bytes. */
  readonly fileSize: number;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

const nothing: Uint8Array = new Uint8Array();

/**
 * Puts an image where the caller can get it.
 *
 * @throws StoreFullError where the store has no space, and what else its `put` throws.
 */
export async function deliverImage(image: EncodedImage, delivery: ImageDelivery): Promise<DeliveredImage> {
  const { bytes, format, width, height } = image;
  const about = { contentType: contentTypeOf(format), fileSize: bytes.length, width, height };
  if (delivery === "inline") {
    return { ...about, fileName: imageFileNameOf(image), url: "", data: bytes };
  }
  if (delivery === "data-uri") {
    return { ...about, fileName: imageFileNameOf(image), url: toDataUri(image), data: nothing };
  }
  const fileName = await delivery.store.put(image);
  return { ...about, fileName, url: imageUrl(delivery.baseUrl, fileName), data: nothing };
}
