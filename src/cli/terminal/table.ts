import type { TextStyle } from "./terminal.js";

/** Renders a table with its heads in a dim line. `lineStyle` gets each further line and the number of its row. */
export function renderTable(
  heads: readonly string[],
  rows: readonly (readonly string[])[],
  lineStyle: (line: string, row: number) => string,
  style: TextStyle,
): string {
  const widths = heads.map((head, column) => Math.max(head.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const lineOf = (cells: readonly string[]) =>
    cells
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join("  ")
      .trimEnd();
  const lines = [style("dim", lineOf(heads)), ...rows.map((row, i) => lineStyle(lineOf(row), i))];
  return lines.map((line) => `${line}\n`).join("");
}
