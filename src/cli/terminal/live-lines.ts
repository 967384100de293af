import ansiEscapes from "ansi-escapes";
import { createLogUpdate } from "log-update";
import type { Output } from "../command.js";
import { columnsOf } from "./terminal.js";

/** Lines at the foot of a terminal that are redrawn in place. */
export interface LiveLines {
  /** Shows the lines and keeps them up to date. */
  redraw(): void;
  /** Removes the lines, calls `write`, which may write to any stream of this terminal, and shows them again. */
  above(write: () => void): void;
  /** Removes the lines for good. */
  end(): void;
}

/** Time between two redraws without an update, in milliseconds: elapsed time changes too. */
const tickMs = 250;

/** Updates within this time are drawn together, in milliseconds. */
const restMs = 50;

/**
 * Draws lines in place. The cursor stays visible: a killed command could not show it again. Nothing is drawn before the first
 * {@link LiveLines.redraw}.
 *
 * @param draw the lines for a terminal of so many columns, none of them longer.
 */
export function createLiveLines(output: Output, draw: (columns: number) => readonly string[]): LiveLines {
  const update = createLogUpdate(output, { showCursor: true });
  let shown: readonly string[] = [];
  let soon: NodeJS.Timeout | undefined;
  let tick: NodeJS.Timeout | undefined;
  let drawnAt = Number.NEGATIVE_INFINITY;
  let ended = false;

  const show = (): void => {
    clearTimeout(soon);
    soon = undefined;
    drawnAt = Date.now();
    const lines = draw(columnsOf(output));
    if (lines.length === 0) {
      erase();
    } else {
      update(lines.join("\n"));
      shown = lines;
    }
  };
  const erase = (): void => {
    if (shown.length > 0) {
      shown = [];
      update.clear();
    }
  };
  /** A narrower terminal has wrapped the lines, and log-update does not count those rows. */
  const resize = (): void => {
    const columns = columnsOf(output) + 1;
    const wrapped = shown.reduce((sum, line) => sum + Math.max(0, Math.ceil(line.length / columns) - 1), 0);
    if (wrapped > 0) {
      output.write(ansiEscapes.eraseLines(wrapped + 1));
    }
    show();
  };
  return {
    redraw() {
      if (ended) {
        return;
      }
      if (tick === undefined) {
        tick = setInterval(show, tickMs).unref();
        output.on("resize", resize);
      }
      if (Date.now() - drawnAt >= restMs) {
        show();
      } else {
        soon ??= setTimeout(show, restMs).unref();
      }
    },
    above(write) {
      const wasShown = shown.length > 0;
      erase();
      write();
      if (wasShown) {
        show();
      }
    },
    end() {
      ended = true;
      clearTimeout(soon);
      clearInterval(tick);
      output.removeListener("resize", resize);
      erase();
    },
  };
}
