import type { Output } from "../command-context.js";
import { columnsOf } from "./terminal.js";

/** Lines at the foot of a terminal that are drawn anew in their place. */
export interface LiveLines {
  /** Shows what `draw` gives now, and keeps it up to date. */
  redraw(): void;
  /** Takes the lines off while something is written above them, to this terminal by whatever stream, and shows them again. */
  above(write: () => void): void;
  /** Takes the lines off for good. */
  end(): void;
}

export interface LiveLinesOptions {
  /** A terminal. */
  readonly output: Output;
  /** The lines for a terminal of so many columns, none of them longer. */
  readonly draw: (columns: number) => readonly string[];
}

/** How often lines are drawn without news, in milliseconds: time that is left goes by. */
const tickMs = 250;

/** News that come faster are drawn together, after so many milliseconds. */
const restMs = 50;

/** Moves the cursor up so many lines. */
const up = (lines: number) => (lines === 0 ? "" : `\u001b[${lines}A`);
const eraseToEnd = "\r\u001b[J";

/**
 * Draws lines in their place. The terminal's modes stay as they are: a command that is killed could not set them back. Nothing is drawn
 * before the first {@link LiveLines.redraw}.
 */
export function createLiveLines({ output, draw }: LiveLinesOptions): LiveLines {
  let shown: readonly string[] = [];
  let soon: NodeJS.Timeout | undefined;
  let tick: NodeJS.Timeout | undefined;
  let drawnAt = Number.NEGATIVE_INFINITY;
  let ended = false;

  /** What takes the lines off. A terminal that has become narrower has broken them into more. */
  const erasing = (): string => {
    if (shown.length === 0) {
      return "";
    }
    const columns = columnsOf(output) + 1;
    const rows = shown.reduce((sum, line) => sum + Math.max(1, Math.ceil(line.length / columns)), 0);
    shown = [];
    return up(rows - 1) + eraseToEnd;
  };
  const show = (): void => {
    clearTimeout(soon);
    soon = undefined;
    drawnAt = Date.now();
    const lines = draw(columnsOf(output));
    if (lines.length === shown.length && lines.every((line, i) => line === shown[i])) {
      return;
    }
    const text = erasing() + lines.join("\n");
    shown = lines;
    output.write(text);
  };
  const redraw = (): void => {
    if (ended) {
      return;
    }
    if (tick === undefined) {
      tick = setInterval(show, tickMs).unref();
      output.on("resize", show);
    }
    if (Date.now() - drawnAt >= restMs) {
      show();
    } else {
      soon ??= setTimeout(show, restMs).unref();
    }
  };
  const erase = (): void => {
    const text = erasing();
    if (text !== "") {
      output.write(text);
    }
  };
  return {
    redraw,
    above(write) {
      const wasShown = shown.length > 0;
      erase();
      write();
      if (wasShown) {
        show();
      }
    },
    end() {
      if (!ended) {
        ended = true;
        clearTimeout(soon);
        clearInterval(tick);
        output.removeListener("resize", show);
        erase();
      }
    },
  };
}
