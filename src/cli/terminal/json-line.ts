/**
 * A value as a line of JSON. What could steer a terminal or turn its lines around is escaped: JSON itself wants that of the first 32 characters
 * only, and such a line is also read by people.
 */
export function jsonLine(value: object): string {
  return `${JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, escaped)}\n`;
}

/** Outside of the first 65,536 a character has two escapes. */
function escaped(character: string): string {
  return Array.from(
    { length: character.length },
    (_, i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, "0")}`,
  ).join("");
}
