import { create } from "@bufbuild/protobuf";
import { type Image, ImageSchema } from "../gen/throughline/v1/image_pb.js";
import { parseDataUri } from "../image/data-uri.js";
import { type ImageTarget, imageUrl } from "../image/image-route.js";
import { StoreFullError } from "../image/store-full-error.js";
import { internal, storeFull } from "../mesh/errors/errors.js";

/**
 * Makes a worker's picture one that the pipeline's caller can fetch: what came as a `data:` URI goes into the pipeline's own store, because
 * who reaches the pipeline may not reach the worker. Without a target, or where the worker gave a URL after all, the picture stays as it is.
 *
 * @throws ConnectError INTERNAL where the worker gave neither a picture of a known type nor an http(s) URL: callers may open what they get;
 * UNAVAILABLE where the store has no space.
 */
export async function deliver(image: Image, target: ImageTarget | undefined): Promise<Image> {
  const picture = parseDataUri(image.url);
  if (picture === undefined ? !isWebUrl(image.url) : picture.bytes.length === 0) {
    throw internal("the worker answered without a picture");
  }
  if (picture === undefined || target === undefined) {
    return image;
  }
  const { width, height } = image;
  const fileName = await target.store.put({ ...picture, width, height }).catch((error: unknown) => {
    throw error instanceof StoreFullError ? storeFull(error) : error;
  });
  return create(ImageSchema, { ...image, fileName, url: imageUrl(target.baseUrl, fileName) });
}

function isWebUrl(url: string): boolean {
  return /^https?:\/\//i.test(url) && URL.canParse(url);
}
