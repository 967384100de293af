import { contentTypeOf, type EncodedImage, formatOfContentType, type ImageFormat } from "./image-format.js";

/** The whole picture as a `data:` URI (RFC 2397), base64. */
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
