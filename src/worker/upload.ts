import type { Context } from "@opentelemetry/api";
import { type DeliveredImage, deliverImage, type ImageDelivery } from "../image/delivery.js";
import { encodeImage, type RgbPixels } from "../image/encode-image.js";
import { contentTypeOf, type ImageFormat } from "../image/image-format.js";
import { withSpan } from "../trace/span-scope.js";
import type { PaintingWatch } from "./diffusion.js";

/** Encodes an image and puts it where the caller can get it, on an `upload` span. */
export function upload(
  { tracer, stageTracer, metrics }: PaintingWatch,
  parent: Context,
  pixels: RgbPixels,
  format: ImageFormat,
  delivery: ImageDelivery,
): Promise<DeliveredImage> {
  return withSpan(tracer, "upload", { parent }, async (span, scope) => {
    const startedAt = performance.now();
    const image = await withSpan(stageTracer, "image-encode", { parent: scope }, () => encodeImage(pixels, format));
    metrics.stageTook("image-encode", performance.now() - startedAt);
    span.setAttributes({ "image.file_size": image.bytes.length, "image.content_type": contentTypeOf(format) });
    return deliverImage(image, delivery);
  });
}
