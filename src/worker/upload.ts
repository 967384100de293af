import type { MessageInitShape } from "@bufbuild/protobuf";
import type { Context } from "@opentelemetry/api";
import type { ImageSchema } from "../gen/throughline/v1/image_pb.js";
import { toDataUri } from "../image/data-uri.js";
import { encodeImage, type RgbPixels } from "../image/encode-image.js";
import { contentTypeOf, type ImageFormat } from "../image/image-format.js";
import { type ImageTarget, imageUrl } from "../image/image-route.js";
import { imageFileNameOf } from "../image/image-store.js";
import { withSpan } from "../trace/span-scope.js";
import type { PaintingWatch } from "./diffusion.js";

/** Encodes a picture and puts it where the caller can fetch it, on an `upload` span. Without a target it goes into a `data:` URI. */
export function upload(
  { tracer, stageTracer, metrics }: PaintingWatch,
  parent: Context,
  pixels: RgbPixels,
  format: ImageFormat,
  target: ImageTarget | undefined,
): Promise<MessageInitShape<typeof ImageSchema>> {
  return withSpan(tracer, "upload", { parent }, async (span, scope) => {
    const startedAt = performance.now();
    const image = await withSpan(stageTracer, "image-encode", { parent: scope }, () => encodeImage(pixels, format));
    metrics.stageTook("image-encode", performance.now() - startedAt);
    const contentType = contentTypeOf(format);
    span.setAttributes({ "image.file_size": image.bytes.length, "image.content_type": contentType });
    return {
      url: target === undefined ? toDataUri(image) : imageUrl(target.baseUrl, await target.store.put(image)),
      contentType,
      fileName: imageFileNameOf(image),
      fileSize: image.bytes.length,
      width: image.width,
      height: image.height,
    };
  });
}
