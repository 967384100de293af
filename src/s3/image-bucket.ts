import { contentTypeOf, type EncodedImage, formatOfFileName } from "../image/image-format.js";
import { type ImageStore, imageFileName, imageFileNameOf } from "../image/image-store.js";
import type { Bucket } from "./bucket.js";

/** Options of {@link createImageBucket}. */
export interface ImageBucketOptions {
  /**
   * Age above which an image that is put again is written anew, in milliseconds: the bucket's lifecycle deletes by age. Set the lifecycle to
   * twice as much.
   */
  readonly renewAfterMs: number;
  /** Milliseconds since 1970. @default Date.now */
  readonly now?: (() => number) | undefined;
}

/** Creates an image store in a bucket. Nothing is removed: that is for a lifecycle rule of the bucket. */
export function createImageBucket(bucket: Bucket, { renewAfterMs, now = Date.now }: ImageBucketOptions): ImageStore {
  return {
    async put(image: EncodedImage): Promise<string> {
      const fileName = imageFileNameOf(image);
      const object = {
        bytes: image.bytes,
        contentType: contentTypeOf(image.format),
        cacheControl: "public, max-age=31536000, immutable",
      };
      if (await bucket.putNew(fileName, object)) {
        return fileName;
      }
      // The name is made from the content, so that what is stored is this image.
      const changedAt = await bucket.changedAt(fileName);
      if (changedAt === undefined || now() - changedAt >= renewAfterMs) {
        await bucket.put(fileName, object);
      }
      return fileName;
    },

    async get(fileName) {
      const format = formatOfFileName(fileName);
      if (format === undefined || !imageFileName.test(fileName)) {
        return undefined;
      }
      const bytes = await bucket.get(fileName);
      return bytes && { bytes, format };
    },

    urlOf: (fileName) => bucket.presign(fileName),
  };
}
