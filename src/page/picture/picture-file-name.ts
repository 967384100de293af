const maxLength = 60;

const extensions: ReadonlyMap<string, string> = new Map([
  ["image/png", "png"],
  ["image/jpeg", "jpg"],
  ["image/webp", "webp"],
]);

/**
 * A file name that says what the picture is and how to get it again, such as `a-red-heart-seed-7.png`. Only letters, digits and dashes stand
 * before the extension; `picture` where the prompt has none of them.
 */
export function pictureFileName(prompt: string, seed: number, contentType: string): string {
  const words =
    prompt
      .normalize("NFC")
      .toLowerCase()
      .match(/[\p{L}\p{N}][\p{L}\p{M}\p{N}]*/gu) ?? [];
  let name = "";
  for (const word of words) {
    const longer = name === "" ? [...word].slice(0, maxLength).join("") : `${name}-${word}`;
    if ([...longer].length > maxLength) {
      break;
    }
    name = longer;
  }
  return `${name === "" ? "picture" : name}-seed-${seed}.${extensions.get(contentType) ?? "png"}`;
}
