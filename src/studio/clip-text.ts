/**
 * A text of at most `maxLength` characters, an ellipsis included where it was longer. The result is a copy: a part of a string would keep the
 * whole of it in memory.
 */
export function clipText(text: string, maxLength: number): string {
  return text.length > maxLength ? Buffer.from(`${text.slice(0, maxLength - 1)}…`).toString() : text;
}
