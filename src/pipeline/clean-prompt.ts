/** Tabs and line ends. Most are of the category Cc, so they become spaces before the rest of that category is dropped. */
const breaks = /[\t\n\v\f\r\u0085\u2028\u2029]/gu;
/** What is left of the category Cc. Joiners (U+200C, U+200D) are of category Cf and stay: emoji and scripts need them. */
const controls = /\p{Cc}/gu;

/**
 * Cleans a prompt, in this order: tabs and line ends to spaces, other control characters dropped, NFC, white space collapsed
 * to single spaces, trimmed. The result may be empty. Cleaning a clean prompt changes nothing.
 */
export function cleanPrompt(raw: string): string {
  return raw.replace(breaks, " ").replace(controls, "").normalize("NFC").replace(/\s+/gu, " ").trim();
}

/** Length as people count it: Unicode code points, so that an emoji outside the basic plane is one. */
export function codePointLength(text: string): number {
  let length = 0;
  for (const _ of text) {
    length++;
  }
  return length;
}
