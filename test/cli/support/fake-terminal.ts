import { Writable } from "node:stream";

/** A terminal for tests: it shows what a person would see. */
export interface FakeTerminal extends Writable {
  readonly isTTY: true;
  columns: number;
  /** All that was written to it. */
  written(): string;
  /** Its lines, without what is blank at their ends and at the end. */
  screen(): string[];
  /** Changes its width, as a person does who drags its edge. Lines that are now too long go on in the next one. */
  resize(columns: number): void;
}

/** Makes a terminal as high as it needs to be, with the cursor in its first line. It throws at what it does not understand. */
export function createFakeTerminal(columns = 80): FakeTerminal {
  /** What was written without a break between; a terminal breaks it where it ends. */
  let lines: string[] = [""];
  let row = 0;
  let column = 0;
  let written = "";

  const put = (character: string): void => {
    if (column === terminal.columns) {
      row++;
      column = 0;
    }
    lines[row] = (lines[row] ?? "").padEnd(column).slice(0, column) + character + (lines[row] ?? "").slice(column + 1);
    column++;
  };
  // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are steered by them.
  const token = /\u001b\[(\d*)([ABJKG])|\u001b\[\?2026[hl]|\u001b\[[\d;]*m|\r|\n|[^\u0000-\u001f]/gy;
  const take = (text: string): void => {
    token.lastIndex = 0;
    while (token.lastIndex < text.length) {
      const at = token.lastIndex;
      const match = token.exec(text);
      if (match === null) {
        throw new Error(`a terminal gets ${JSON.stringify(text.slice(at, at + 20))}`);
      }
      const [said, count = "", command] = match;
      if (said === "\r" || command === "G") {
        column = 0;
      } else if (said === "\n") {
        row++;
        column = 0;
        lines[row] ??= "";
      } else if (command === "A") {
        row = Math.max(0, row - Number(count || 1));
      } else if (command === "B") {
        row += Number(count || 1);
      } else if (command === "J") {
        lines = [...lines.slice(0, row), (lines[row] ?? "").slice(0, column)];
      } else if (command === "K") {
        lines[row] = count === "2" ? "" : (lines[row] ?? "").slice(0, column);
      } else if (!said.startsWith("\u001b")) {
        put(said);
      }
    }
  };
  const stream = new Writable({
    decodeStrings: false,
    write(chunk: string, _encoding, done) {
      written += chunk;
      take(chunk);
      done();
    },
  });
  const terminal: FakeTerminal = Object.assign(stream, {
    isTTY: true as const,
    columns,
    written: () => written,
    screen() {
      const shown = lines.map((line) => line.trimEnd());
      return shown.slice(0, shown.findLastIndex((line) => line !== "") + 1);
    },
    resize(next: number) {
      terminal.columns = next;
      const parts = lines.map((line) => line.match(new RegExp(`.{1,${next}}`, "gu")) ?? [""]);
      row = parts.slice(0, row).flat().length + Math.max(0, Math.ceil(column / next) - 1);
      column = column === 0 ? 0 : ((column - 1) % next) + 1;
      lines = parts.flat();
      terminal.emit("resize");
    },
  });
  return terminal;
}
