import type { Finding } from "./doctor-finding.js";

const marks = { ok: "ok", warning: "warning", wrong: "WRONG" } as const;
/** Colours of ANSI terminals. */
const colours = { ok: 32, warning: 33, wrong: 31 } as const;

/** The findings as aligned lines, each remedy below what it is for. */
export function renderFindings(findings: readonly Finding[], options: { readonly coloured: boolean }): string {
  const nameWidth = Math.max(...findings.map(({ name }) => name.length));
  const markWidth = Math.max(...Object.values(marks).map((mark) => mark.length));
  const mark = (state: Finding["state"]): string => {
    const text = marks[state].padEnd(markWidth);
    return options.coloured ? `\u001b[${colours[state]}m${text}\u001b[0m` : text;
  };
  const lines = findings.flatMap(({ name, state, found, remedy }) => {
    const line = `${mark(state)}  ${name.padEnd(nameWidth)}  ${found}`;
    return remedy === undefined ? [line] : [line, `${" ".repeat(markWidth + nameWidth + 4)}→ ${remedy}`];
  });
  return `${lines.join("\n")}\n`;
}
