/** Encodings that pictures are stored and sent in. */
export type ImageFormat = "png" | "jpeg" | "webp";

/** A picture, encoded. */
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
