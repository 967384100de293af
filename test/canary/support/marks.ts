/** Stands in every marked prompt, and nowhere else. */
export const mark = "CANARY7f3a91";

/** A unique prompt. */
export function markedPrompt(index: number): string {
  return `${mark}n${String(index).padStart(4, "0")}e`;
}

/** What a text looks like inside others: as it is, in hexadecimal, and in base64, whose letters depend on where it begins. */
export function formsOf(text: string): readonly string[] {
  const base64 = [0, 1, 2].map((offset) => {
    const encoded = Buffer.from(`${"x".repeat(offset)}${text}`).toString("base64");
    // The first and the last letters hold bits of what stands beside the text.
    return encoded.slice(offset === 0 ? 0 : 4, -4);
  });
  return [
    text,
    Buffer.from(text).toString("hex"),
    ...base64,
    ...base64.map((each) => each.replaceAll("+", "-").replaceAll("/", "_")),
  ];
}

/** Where a text holds another one in any of its forms, with what stands around it; undefined where it does not. */
export function findIn(text: string, wanted: string): string | undefined {
  for (const form of formsOf(wanted)) {
    const at = text.indexOf(form);
    if (at >= 0) {
      return text.slice(Math.max(0, at - 200), at + 200);
    }
  }
  return undefined;
}
