import sharp from "sharp";
import { maxInitImageSide } from "../request-limits.js";
import type { RgbPixels } from "./encode-image.js";

/** Size of an image in pixels. */
export type ImageSize = Pick<RgbPixels, "width" | "height">;

/** An image that a caller sent cannot be used. The message is for its sender: what is wrong, the limit, and what to do. */
export class InputImageError extends Error {
  override readonly name = "InputImageError";
}

/** Reads images that callers send. */
export interface ImageDecoder {
  /**
   * Checks an image by its first bytes and its header, which costs milliseconds whatever the image.
   *
   * @returns its size, with its orientation.
   * @throws InputImageError unless it is a PNG, JPEG or WebP image of at most 2,048 pixels a side.
   */
  inspect(bytes: Uint8Array): Promise<ImageSize>;
  /**
   * Decodes an image, scaled and cropped to a size. Call `inspect` before. One image is decoded at a time, so that many of them take neither
   * all cores nor much memory.
   *
   * @throws InputImageError when it is truncated or damaged; the signal's reason when it is aborted before its turn.
   */
  decode(bytes: Uint8Array, size: ImageSize, signal: AbortSignal): Promise<RgbPixels>;
}

/** Create a decoder with a queue of its own. */
export function createImageDecoder(): ImageDecoder {
  let last: Promise<unknown> = Promise.resolve();
  return {
    inspect,
    decode(bytes, size, signal) {
      const decoded = last.then(() => {
        signal.throwIfAborted();
        return decode(bytes, size);
      });
      last = decoded.catch(() => {});
      return decoded;
    },
  };
}

/** Formats that are decoded. libvips knows more, whose parsers callers must not reach. */
const decoded = ["PNG", "JPEG", "WebP"];

async function inspect(bytes: Uint8Array): Promise<ImageSize> {
  const format = formatOf(bytes);
  if (format === undefined || !decoded.includes(format)) {
    const found = format === undefined ? "is of an unknown format" : `is ${format}`;
    throw new InputImageError(`the file ${found}; send PNG, JPEG or WebP`);
  }
  // Reads no pixels, so the limit of pixels is checked here, where the message can name the size.
  const header = await sharp(bytes, { limitInputPixels: false })
    .metadata()
    .catch((cause: unknown) => {
      throw new InputImageError(`the header of the ${format} file is truncated or damaged; send the whole file`, {
        cause,
      });
    });
  const { width, height } = header.autoOrient;
  if (width > maxInitImageSide || height > maxInitImageSide) {
    const limit = `at most ${maxInitImageSide} a side are accepted`;
    throw new InputImageError(`the image has ${width}×${height} pixels, and ${limit}; scale it down`);
  }
  return { width, height };
}

/** Time limit for one image, in seconds. The slowest seen, WebP of 2,048² pixels, takes one. */
const timeoutSeconds = 20;

async function decode(bytes: Uint8Array, { width, height }: ImageSize): Promise<RgbPixels> {
  const { data, info } = await decodeWhole(bytes).catch((cause: unknown) => {
    const message = "the image is truncated or damaged; send the whole file, or export it again";
    throw new InputImageError(message, { cause });
  });
  const resized = await sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } })
    // As PIL's LANCZOS, which diffusers resizes with.
    .resize(width, height, { fit: "cover", position: "centre", kernel: "lanczos3" })
    .raw()
    .toBuffer();
  return { data: new Uint8Array(resized.buffer, resized.byteOffset, resized.byteLength), width, height };
}

/**
 * The first frame, upright, on white, as 8-bit sRGB. It is not resized on the way, because rows that a crop leaves out would not be read, and
 * so not be found to be missing.
 */
function decodeWhole(bytes: Uint8Array) {
  return sharp(bytes, {
    autoOrient: true,
    limitInputPixels: maxInitImageSide ** 2,
    // Truncated files and wrong data fail; warnings, such as of a camera's odd metadata, do not.
    failOn: "error",
  })
    .flatten({ background: "white" })
    .toColourspace("srgb")
    .raw()
    .timeout({ seconds: timeoutSeconds })
    .toBuffer({ resolveWithObject: true });
}

/** First bytes of formats, and where they are. */
const signatures: readonly (readonly [format: string, start: string, at?: number])[] = [
  ["PNG", "\x89PNG\r\n\x1a\n"],
  ["JPEG", "\xff\xd8\xff"],
  ["WebP", "WEBP", 8],
  ["GIF", "GIF8"],
  ["TIFF", "II*\0"],
  ["TIFF", "MM\0*"],
  ["TIFF", "II+\0"],
  ["TIFF", "MM\0+"],
  ["BMP", "BM"],
  ["PDF", "%PDF"],
  ["AVIF", "ftypavi", 4],
  ["HEIF", "ftyp", 4],
  ["JPEG XL", "\xff\x0a"],
  ["JPEG XL", "JXL ", 4],
  ["JPEG 2000", "jP  ", 4],
  ["Photoshop", "8BPS"],
  ["an icon", "\0\0\x01\0"],
  ["a compressed file", "\x1f\x8b"],
  ["a data: URI, not its bytes", "data:"],
];

/** Bytes that a format is known by. SVG can begin with comments. */
const readBytes = 1024;

function formatOf(bytes: Uint8Array): string | undefined {
  const text = Buffer.from(bytes.subarray(0, readBytes)).toString("latin1");
  const [format] = signatures.find(([, start, at = 0]) => text.startsWith(start, at)) ?? [];
  if (format !== undefined) {
    return format;
  }
  return /<svg[\s>]/i.test(text) ? "SVG" : /^\s*(?:\xef\xbb\xbf)?\s*<[?!a-z]/i.test(text) ? "XML or HTML" : undefined;
}
