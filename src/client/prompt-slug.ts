const maxLength = 60;

/** Names of devices, which Windows does not allow for files, whatever their extension. */
const reserved = /^(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])$/;

/**
 * Makes the stem of an image's file name from a prompt, such as `a-red-heart`: its letters and digits in lower case with dashes between, at
 * most 60 code points. It is never a path, never hidden and never a name that Windows reserves. A prompt without letters and digits becomes
 * `image-` and a hash of it, so that different prompts have different files; an empty one becomes `image`.
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

/** FNV-1a over UTF-16, as eight hexadecimal digits. Browsers hash with SHA-256 asynchronously only. */
function hashOf(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  }
  return hash.toString(16).padStart(8, "0");
}
