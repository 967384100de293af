import { create } from "@bufbuild/protobuf";
import { Delivery, type GenerationOptions, type Image, ImageSchema } from "../gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../image/data-uri.js";
import { deliverImage, type ImageDelivery, type ImageTarget } from "../image/delivery.js";
import { type EncodedImage, formatOfContentType } from "../image/image-format.js";
import { StoreFullError } from "../image/store-full-error.js";
import { internal, storeFull } from "../mesh/errors/errors.js";

/** How the options ask for the image to be delivered. Without a store that is a `data:` URI, unless they ask for bytes. */
export function deliveryOf(options: GenerationOptions | undefined, target: ImageTarget | undefined): ImageDelivery {
  if (options?.delivery === Delivery.INLINE) {
    return "inline";
  }
  return options?.delivery === Delivery.DATA_URI ? "data-uri" : (target ?? "data-uri");
}

/**
 * Delivers a worker's image to the pipeline's caller: into the pipeline's own store, because who reaches the pipeline may not reach the
 * worker, or inside the response. Where the worker gave a URL after all, the image stays as it is.
 *
 * @throws ConnectError INTERNAL where the worker gave neither an image of a known type nor an http(s) URL: callers may open what they get;
 * UNAVAILABLE where the store has no space.
 */
export async function deliver(image: Image, delivery: ImageDelivery): Promise<Image> {
  const encoded = encodedOf(image);
  if (encoded === undefined && isWebUrl(image.url)) {
    return image;
  }
  if (encoded === undefined || encoded.bytes.length === 0) {
    throw internal("the worker answered without a picture");
  }
  const delivered = await deliverImage(encoded, delivery).catch((error: unknown) => {
    throw error instanceof StoreFullError ? storeFull(error) : error;
  });
  return create(ImageSchema, delivered);
}

/** The image in a worker's response: its bytes, or what the `data:` URI of a worker of version 1 holds. */
function encodedOf({ data, contentType, url, width, height }: Image): EncodedImage | undefined {
  if (data.length === 0) {
    const parsed = parseDataUri(url);
    return parsed && { ...parsed, width, height };
  }
  const format = formatOfContentType(contentType);
  return format && { bytes: data, format, width, height };
}

function isWebUrl(url: string): boolean {
  return /^https?:\/\//i.test(url) && URL.canParse(url);
}
