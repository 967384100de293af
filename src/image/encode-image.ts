import sharp, { type Sharp } from "sharp";

/** 8-bit RGB, row by row from the top, three bytes a pixel. */
export interface RgbPixels {
  readonly data: Uint8Array;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/** Quality of the lossy formats, 1 to 100, as documented in the contract. */
const lossyQuality = 90;

/**
 * Encode an image on libuv's thread pool. The same pixels and format give the same bytes.
 *
 * @throws Error unless the data has width × height × 3 bytes.
 */
export async function encodeImage(pixels: RgbPixels, format: ImageFormat): Promise<EncodedImage> {
  const { data, width, height } = pixels;
  if (data.length !== width * height * 3) {
    throw new Error(`pixels of ${width}×${height} need ${width * height * 3} bytes, got ${data.length}`);
  }
  const raw = sharp(data, { raw: { width, height, channels: 3 } });
  return { bytes: await encoder(raw, format).toBuffer(), format, width, height };
}

function encoder(raw: Sharp, format: ImageFormat): Sharp {
  switch (format) {
    case "png":
      return raw.png({ compressionLevel: 6 });
    case "jpeg":
      // Full chroma resolution: the sharp edges of small models' images bleed at half resolution.
      return raw.jpeg({ quality: lossyQuality, chromaSubsampling: "4:4:4" });
    case "webp":
      return raw.webp({ quality: lossyQuality });
  }
}

/** Convert an image to a base64 `data:` URI (RFC 2397). */
export function toDataUri(image: EncodedImage): string {
  const { buffer, byteOffset, byteLength } = image.bytes;
  return `data:${contentTypeOf(image.format)};base64,${Buffer.from(buffer, byteOffset, byteLength).toString("base64")}`;
}

/** Parse a base64 `data:` URI with a supported format; undefined for any other text. */
export function parseDataUri(uri: string): { readonly bytes: Uint8Array; readonly format: ImageFormat } | undefined {
  const comma = uri.indexOf(",");
  const contentType = /^data:([a-z]+\/[a-z]+);base64$/.exec(uri.slice(0, Math.max(comma, 0)))?.[1];
  const format = contentType === undefined ? undefined : formatOfContentType(contentType);
  if (format === undefined) {
    return undefined;
  }
  return { bytes: Buffer.from(uri.slice(comma + 1), "base64"), format };
}

/** Image encodings. */
export type ImageFormat = "png" | "jpeg" | "webp";

/** Encoded image. */
export interface EncodedImage {
  readonly bytes: Uint8Array;
  readonly format: ImageFormat;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

const contentTypes: Record<ImageFormat, string> = { png: "image/png", jpeg: "image/jpeg", webp: "image/webp" };
const extensions: Record<ImageFormat, string> = { png: "png", jpeg: "jpg", webp: "webp" };

/** Media type of a format, such as `image/png`. */
export function contentTypeOf(format: ImageFormat): string {
  return contentTypes[format];
}

/** File name extension of a format, without the dot. */
export function extensionOf(format: ImageFormat): string {
  return extensions[format];
}

/** Format of a media type; undefined if not supported. */
export function formatOfContentType(contentType: string): ImageFormat | undefined {
  return formats.find((format) => contentTypes[format] === contentType);
}

/** Format of a file name's extension; undefined if not supported. */
export function formatOfFileName(fileName: string): ImageFormat | undefined {
  return formats.find((format) => fileName.endsWith(`.${extensions[format]}`));
}

const formats = ["png", "jpeg", "webp"] as const satisfies readonly ImageFormat[];
