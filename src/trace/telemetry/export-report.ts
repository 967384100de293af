import type { TelemetryLog } from "./environment.js";

/** Causes of loss: a full retry queue, a rejection by the collector, the end of the process, or a batch that cannot be encoded. */
export const lossCauses = ["queue_full", "rejected", "shutdown", "encoding"] as const;

/** One of {@link lossCauses}. */
export type LossCause = (typeof lossCauses)[number];

/** What a report speaks of. */
export interface ExportedKind {
  /** In messages. */
  readonly name: string;
  /** End of the names of the fields. */
  readonly field: string;
  /** Added to each line of a loss. */
  readonly hint?: string;
  /** Whether a problem is logged once until an export succeeds, instead of once a minute. */
  readonly once?: boolean;
}

/** Reports to the log what becomes of exports. The SDK reports it to a logger that is global to the process, or to nobody. */
export interface ExportReport {
  /** Counts items that are lost. */
  lost(items: number, cause: LossCause, reason: string): void;
  /** Reports how many items wait because of a failure that may pass. */
  waiting(items: number, reason: string): void;
  /** A batch was delivered: what `waiting` reported and the log does not have yet is void. */
  delivered(): void;
  /** Reports the message of a collector that took everything. */
  remark(message: string): void;
  /** Items lost so far, by cause. */
  lostItems(): ReadonlyMap<LossCause, number>;
  /** Logs what is not logged yet, and nothing afterwards. */
  close(): void;
}

const intervalMs = 60_000;

/**
 * A report with at most one line a minute of each sort, the first at once, so that a dead collector does not flood the log. Each
 * line counts everything that was lost since the last.
 */
export function createExportReport(kind: ExportedKind, log: TelemetryLog, clock: Clock): ExportReport {
  const { name, field, hint, once = false } = kind;
  const lostItems = new Map<LossCause, number>();
  let unreported = 0;
  let lossReason = "";
  let wait: { readonly items: number; readonly reason: string } | undefined;
  let remark = "";
  const lossLine = throttle(clock, once, () => {
    const fields = { [`lost${field}`]: unreported, reason: lossReason, ...(hint !== undefined && { hint }) };
    log.warn(fields, `${name} could not be exported`);
    unreported = 0;
  });
  const waitLine = throttle(clock, once, () => {
    if (wait) {
      log.warn({ [`waiting${field}`]: wait.items, reason: wait.reason }, `${name} wait for the collector`);
    }
  });
  const remarkLine = throttle(clock, once, () => log.warn({ remark }, `the collector took ${name} with a remark`));
  return {
    lost(items, cause, reason) {
      if (items > 0) {
        lostItems.set(cause, (lostItems.get(cause) ?? 0) + items);
        unreported += items;
        lossReason = oneLine(reason);
        lossLine.ask();
      }
    },
    waiting(items, reason) {
      wait = { items, reason: oneLine(reason) };
      waitLine.ask();
    },
    delivered() {
      wait = undefined;
      lossLine.rearm();
      waitLine.rearm();
    },
    remark(message) {
      remark = oneLine(message);
      remarkLine.ask();
    },
    lostItems: () => lostItems,
    close() {
      wait = undefined;
      for (const line of [lossLine, waitLine, remarkLine]) {
        line.close();
      }
    },
  };
}

interface ThrottledLine {
  /** Writes the line now or, where it was written within the last minute, when the minute is over. */
  ask(): void;
  /** Lets a line that is written once be written again. */
  rearm(): void;
  /** Writes a line that was asked for and not written. */
  close(): void;
}

function throttle(clock: Clock, once: boolean, write: () => void): ThrottledLine {
  let isOwed = false;
  let isBlocked = false;
  let cancel = () => {};
  const ask = () => {
    if (isBlocked) {
      isOwed = !once;
      return;
    }
    isOwed = false;
    isBlocked = true;
    if (!once) {
      cancel = clock.after(intervalMs, () => {
        isBlocked = false;
        if (isOwed) {
          ask();
        }
      });
    }
    write();
  };
  return {
    ask,
    rearm() {
      if (once) {
        isBlocked = false;
      }
    },
    close() {
      cancel();
      if (isOwed) {
        isOwed = false;
        write();
      }
    },
  };
}

/** One line, cut: what a collector answers can be a whole web page. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").slice(0, 200);
}

/** Time as the export of spans knows it; a test can drive one of its own. */
export interface Clock {
  /** Milliseconds of a clock that never goes back. */
  now(): number;
  /** Runs something once, after so many milliseconds. Does not keep the process alive. @returns what calls it off. */
  after(delayMs: number, run: () => void): () => void;
}

/** The process's own time. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs).unref();
    return () => clearTimeout(timer);
  },
};
