import { clipText } from "./clip-text.js";

/**
 * A stranger's text for one line of a terminal: what could steer the terminal, turn the line around or break it is shown as a mark, and what is
 * longer than `maxLength` characters is cut.
 */
export function printable(text: string, maxLength = 120): string {
  return clipText(text, maxLength).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\ufffd");
}
