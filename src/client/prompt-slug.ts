const maxLength = 60;

/**
 * A prompt's letters and digits in lower case with dashes between, at most 60 code points, such as `a-red-heart`: the stem of a picture's
 * file name, never a path and never hidden. `picture` where the prompt has neither letters nor digits.
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
  return slug === "" ? "picture" : slug;
}
