const maxLength = 60;

/** Device names, which Windows rejects as file names with any extension. */
const reserved = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])$/;

/**
 * Converts a prompt to the stem of an image's file name, such as `a-red-heart`.
 *
 * The stem has lower-case letters and digits, dashes between words, and at most 60 code points. It is never a path, a hidden file or a
 * name that Windows reserves. A prompt without letters and digits becomes `image-<hash>`; an empty prompt becomes `image`.
 */
export function promptSlug(prompt: string): string {
  const words =
    prompt
      .normalize("NFC")
      .toLowerCase()
      .match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  let slug = "";
  for (const word of words) {
    const longer = slug === "" ? [...word].slice(0, maxLength).join("") : `${slug}-${word}`;
    if ([...longer].length > maxLength) {
      break;
    }
    slug = longer;
  }
  if (slug === "") {
    return prompt.trim() === "" ? "image" : `image-${hashOf(prompt.normalize("NFC"))}`;
  }
  return reserved.test(slug) ? `${slug}-image` : slug;
}

/** FNV-1a over UTF-16, as eight hexadecimal digits. Browsers provide SHA-256 only asynchronously. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, "0");
}
