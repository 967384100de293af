import { crc32 } from "node:zlib";
import sharp, { type Sharp } from "sharp";
import type { EncodedImage, ImageFormat } from "./image-format.js";
import { addPngTexts } from "./png-text.js";

/** 8-bit RGB, row by row from the top, three bytes a pixel. */
export interface RgbPixels {
  readonly data: Uint8Array;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/** Default quality of the lossy formats, as documented in the contract. */
const defaultQuality = 90;

/** Options of {@link encodeImage}. */
export interface EncodeOptions {
  /** Of JPEG and WebP, 1 to 100. @default 90 */
  readonly quality?: number | undefined;
  /** Texts of a PNG file by keyword; other formats have none. @default none */
  readonly texts?: ReadonlyMap<string, string> | undefined;
}

/**
 * Encode an image on libuv's thread pool. The same pixels, format and options give the same bytes.
 *
 * @throws Error unless the data has width × height × 3 bytes.
 */
export async function encodeImage(
  pixels: RgbPixels,
  format: ImageFormat,
  { quality = defaultQuality, texts }: EncodeOptions = {},
): Promise<EncodedImage> {
  const { data, width, height } = pixels;
  if (data.length !== width * height * 3) {
    throw new Error(`pixels of ${width}×${height} need ${width * height * 3} bytes, got ${data.length}`);
  }
  const raw = sharp(data, { raw: { width, height, channels: 3 } });
  const encoded = await encoder(raw, format, quality).toBuffer();
  const bytes = format === "png" && texts !== undefined ? addPngTexts(encoded, texts, crc32) : encoded;
  return { bytes, format, width, height };
}

function encoder(raw: Sharp, format: ImageFormat, quality: number): Sharp {
  switch (format) {
    case "png":
      return raw.png({ compressionLevel: 6 });
    case "jpeg":
      // Full chroma resolution: the sharp edges of small models' images bleed at half resolution.
      return raw.jpeg({ quality, chromaSubsampling: "4:4:4" });
    case "webp":
      return raw.webp({ quality });
  }
}
