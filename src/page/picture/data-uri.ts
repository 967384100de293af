/** The bytes of a base64 `data:` URI with their media type; undefined for any other URL. */
export function bytesOfDataUri(
  url: string,
): { readonly bytes: Uint8Array<ArrayBuffer>; readonly contentType: string } | undefined {
  const [, contentType, base64] = /^data:([\w.+-]+\/[\w.+-]+);base64,(.*)$/s.exec(url) ?? [];
  if (contentType === undefined || base64 === undefined) {
    return undefined;
  }
  return { bytes: Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)), contentType };
}
