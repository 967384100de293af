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

/** Convert an image to a base64 `data:` URI (RFC 2397). */
export function toDataUri(image: EncodedImage): string {
  return `data:${contentTypeOf(image.format)};base64,${toBase64(image.bytes)}`;
}

/** Encode bytes as base64, without a copy before. */
export function toBase64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
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
