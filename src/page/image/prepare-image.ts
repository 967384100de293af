import { maxInitImageSide, requestLimits } from "../../request-limits.js";
import type { ImageSize, StartImage } from "../request/start-image.js";

/** Above it, a file is not decoded: photos have less, and the tab would run out of memory. */
const maxFileBytes = 128 * 1024 * 1024;

/** Quality of a photo that was scaled down, 0 to 1. The second is for one that is still too large. */
const qualities = [0.92, 0.75];

/**
 * Make a file an image that can be sent to start from: as it is if it is within the limits, else scaled down to 2,048 pixels a side, upright,
 * on white, as JPEG.
 *
 * @throws Error whose message follows the file's name.
 */
export async function prepareStartImage(file: Blob): Promise<Omit<StartImage, "name">> {
  if (file.size > maxFileBytes) {
    throw new Error(`has more than ${maxFileBytes / 1024 / 1024} MiB. Choose a smaller image.`);
  }
  if (!isKnownFormat(new Uint8Array(await file.slice(0, 12).arrayBuffer()))) {
    throw new Error("is no PNG, JPEG or WebP image.");
  }
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => {
    throw new Error("cannot be read: it may be damaged or too large.");
  });
  try {
    const { width, height } = bitmap;
    const size = scaledSize({ width, height });
    const isScaled = size.width !== width || size.height !== height;
    if (!isScaled && file.size <= requestLimits.maxInitImageBytes) {
      return { image: file, width, height, original: undefined };
    }
    return { image: await encode(bitmap, size), ...size, original: isScaled ? { width, height } : undefined };
  } finally {
    bitmap.close();
  }
}

/** By the first bytes: names and media types may be wrong. */
function isKnownFormat(head: Uint8Array): boolean {
  const text = String.fromCharCode(...head);
  return text.startsWith("\x89PNG") || text.startsWith("\xff\xd8\xff") || /^RIFF....WEBP/s.test(text);
}

/** The size within the largest that is taken, in the same proportion. */
export function scaledSize({ width, height }: ImageSize): ImageSize {
  const scale = Math.min(1, maxInitImageSide / Math.max(width, height));
  return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
}

async function encode(bitmap: ImageBitmap, { width, height }: ImageSize): Promise<Blob> {
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  if (context !== null) {
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, 0, 0, width, height);
  }
  for (const quality of qualities) {
    const image = await canvas.convertToBlob({ type: "image/jpeg", quality });
    if (image.size <= requestLimits.maxInitImageBytes) {
      return image;
    }
  }
  throw new Error("has more than 8 MiB, also scaled down. Choose a smaller image.");
}
