/**
 * A stranger's text for one line of a terminal: what could steer the terminal, turn the line around or break it is shown as a mark, and what is
 * longer than `maxLength` characters ends in an ellipsis.
 */
export function printable(text: string, maxLength = 120): string {
  const clipped = text.length > maxLength ? `${text.slice(0, maxLength - 1)}…` : text;
  return clipped.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, "\ufffd");
}
