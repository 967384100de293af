import sharp, { type Sharp } from "sharp";

/** 8-bit RGB, row by row from the top, three bytes a pixel. */
export interface RgbPixels {
  readonly data: Uint8Array;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
}

/** Quality of the lossy formats, 1 to 100: the contract promises it. */
const lossyQuality = 90;

/**
 * Encodes an image on libuv's thread pool, so that the event loop stays free. The same pixels and format give the same bytes.
 *
 * @throws Error when the data is not width × height × 3 bytes.
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
      // Full chroma: flat colours with sharp edges, which small models generate, bleed at half resolution.
      return raw.jpeg({ quality: lossyQuality, chromaSubsampling: "4:4:4" });
    case "webp":
      return raw.webp({ quality: lossyQuality });
  }
}

/** The whole image as a `data:` URI (RFC 2397), base64. */
export function toDataUri(image: EncodedImage): string {
  const { buffer, byteOffset, byteLength } = image.bytes;
  return `data:${contentTypeOf(image.format)};base64,${Buffer.from(buffer, byteOffset, byteLength).toString("base64")}`;
}

/** What a `data:` URI of one of our formats holds, or undefined when the text is anything else. */
export function parseDataUri(uri: string): { readonly bytes: Uint8Array; readonly format: ImageFormat } | undefined {
  const comma = uri.indexOf(",");
  const contentType = /^data:([a-z]+\/[a-z]+);base64$/.exec(uri.slice(0, Math.max(comma, 0)))?.[1];
  const format = contentType === undefined ? undefined : formatOfContentType(contentType);
  if (format === undefined) {
    return undefined;
  }
  return { bytes: Buffer.from(uri.slice(comma + 1), "base64"), format };
}

/** Encodings that images are stored and sent in. */
export type ImageFormat = "png" | "jpeg" | "webp";

/** An image, encoded. */
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

/** The format that a media type names, or undefined when it is none of ours. */
export function formatOfContentType(contentType: string): ImageFormat | undefined {
  return formats.find((format) => contentTypes[format] === contentType);
}

/** The format that a file name's extension names, or undefined when it is none of ours. */
export function formatOfFileName(fileName: string): ImageFormat | undefined {
  return formats.find((format) => fileName.endsWith(`.${extensions[format]}`));
}

const formats = ["png", "jpeg", "webp"] as const satisfies readonly ImageFormat[];
