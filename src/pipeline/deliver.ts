import { create } from "@bufbuild/protobuf";
import { type Image, ImageSchema } from "../gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../image/data-uri.js";
import { imageUrl } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";

/** Where the pipeline keeps pictures for its callers, and under which base URL they find them. */
export interface DeliveryTarget {
  readonly store: ImageStore;
  readonly baseUrl: string;
}

/**
 * Makes a worker's picture one that the pipeline's caller can fetch: what came as a `data:` URI goes into the pipeline's own store, because
 * who reaches the pipeline may not reach the worker. Without a target, or where the worker gave a URL after all, the picture stays as it is.
 */
export async function deliver(image: Image, target: DeliveryTarget | undefined): Promise<Image> {
  const picture = parseDataUri(image.url);
  if (picture === undefined || target === undefined) {
    return image;
  }
  const fileName = await target.store.put({ ...picture, width: image.width, height: image.height });
  return create(ImageSchema, { ...image, fileName, url: imageUrl(target.baseUrl, fileName) });
}
