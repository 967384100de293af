/** One thing that the doctor looked at. */
export interface Finding {
  readonly name: string;
  /** `warning`: images are generated all the same. */
  readonly state: "ok" | "warning" | "wrong";
  /** What there is, in one line. */
  readonly found: string;
  /** What to do about it; only where the state is not `ok`. */
  readonly remedy?: string;
}

export function fine(name: string, found: string): Finding {
  return { name, state: "ok", found };
}

export function warning(name: string, found: string, remedy: string): Finding {
  return { name, state: "warning", found, remedy };
}

export function wrong(name: string, found: string, remedy: string): Finding {
  return { name, state: "wrong", found, remedy };
}

/** A size as people read it: `1.4 GiB`. */
export function describeBytes(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  const value = bytes / 1024 ** power;
  return `${value >= 10 || power === 0 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}

const marks = { ok: "ok", warning: "warning", wrong: "WRONG" } as const;
/** Colours of ANSI terminals. */
const colors = { ok: 32, warning: 33, wrong: 31 } as const;

/** The findings as aligned lines, each remedy below what it is for. */
export function renderFindings(findings: readonly Finding[], options: { readonly colored: boolean }): string {
  const nameWidth = Math.max(...findings.map(({ name }) => name.length));
  const markWidth = Math.max(...Object.values(marks).map((mark) => mark.length));
  const mark = (state: Finding["state"]): string => {
    const text = marks[state].padEnd(markWidth);
    return options.colored ? `\u001b[${colors[state]}m${text}\u001b[0m` : text;
  };
  const lines = findings.flatMap(({ name, state, found, remedy }) => {
    const line = `${mark(state)}  ${name.padEnd(nameWidth)}  ${found}`;
    return remedy === undefined ? [line] : [line, `${" ".repeat(markWidth + nameWidth + 4)}→ ${remedy}`];
  });
  return `${lines.join("\n")}\n`;
}
