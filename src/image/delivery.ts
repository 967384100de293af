import { Delivery, type GenerationOptions } from "../gen/throughline/v1/image_pb.js";
import { contentTypeOf, type EncodedImage, toDataUri } from "./image-format.js";
import { imageUrl } from "./image-route.js";
import { type ImageStore, imageFileNameOf } from "./image-store.js";

/** Image store with the base URL of its images. */
export interface ImageTarget {
  readonly store: ImageStore;
  readonly baseUrl: string;
}

/** Delivery of an image: as bytes, in a `data:` URI, or by URL from a store. */
export type ImageDelivery = "inline" | "data-uri" | ImageTarget;

/** Delivered image, with the fields of the contract's Image. */
export interface DeliveredImage {
  /** Empty if `data` contains the image. */
  readonly url: string;
  /** Encoded image; empty if `url` is set. */
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

/** Return the requested delivery. Without a store the default is a `data:` URI. */
export function deliveryOf(options: GenerationOptions | undefined, target: ImageTarget | undefined): ImageDelivery {
  if (options?.delivery === Delivery.INLINE) {
    return "inline";
  }
  return options?.delivery === Delivery.DATA_URI ? "data-uri" : (target ?? "data-uri");
}

/**
 * Deliver an image to the caller.
 *
 * @throws ImageStoreError if the store is full; any other error of its `put`.
 */
export async function deliverImage(image: EncodedImage, delivery: ImageDelivery): Promise<DeliveredImage> {
  const { bytes, format, width, height } = image;
  const common = { contentType: contentTypeOf(format), fileSize: bytes.length, width, height };
  if (delivery === "inline") {
    return { ...common, fileName: imageFileNameOf(image), url: "", data: bytes };
  }
  if (delivery === "data-uri") {
    return { ...common, fileName: imageFileNameOf(image), url: toDataUri(image), data: nothing };
  }
  const { store, baseUrl } = delivery;
  const fileName = await store.put(image);
  const url = store.urlOf === undefined ? imageUrl(baseUrl, fileName) : await store.urlOf(fileName);
  return { ...common, fileName, url, data: nothing };
}
