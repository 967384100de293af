import type { TelemetryLog } from "./environment.js";

/** Causes of loss: a full retry queue, a rejection by the collector, the end of the process, or a batch that cannot be encoded. */
export const lossCauses = ["queue_full", "rejected", "shutdown", "encoding"] as const;

/** One of {@link lossCauses}. */
export type LossCause = (typeof lossCauses)[number];

/** Kind of exported items in a report. */
export interface ExportedKind {
  /** Name in log messages. */
  readonly name: string;
  /** Suffix of the log field names. */
  readonly field: string;
  /** Hint added to each line about lost items. */
  readonly hint?: string;
  /** Whether a problem is logged once until an export succeeds, instead of once a minute. */
  readonly once?: boolean;
}

/** Logs the results of exports per service. The SDK logs some of them to a process-wide logger, and not the others. */
export interface ExportReport {
  /** Reports lost items. */
  lost(items: number, cause: LossCause, reason: string): void;
  /** Reports the number of items that wait for a retry. */
  waiting(items: number, reason: string): void;
  /** Reports a delivered batch. Discards a `waiting` report that is not logged yet. */
  delivered(): void;
  /** Reports the message of a collector that accepted the full batch. */
  remark(message: string): void;
  /** Items lost so far, by cause. */
  lostItems(): ReadonlyMap<LossCause, number>;
  /** Logs the pending lines and stops. */
  close(): void;
}

const intervalMs = 60_000;

/**
 * Create a report with at most one log line per minute and kind.
 *
 * The first line is logged at once. Each line counts all items lost since the previous one.
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
  /** Writes the line now, or one minute after the previous one. */
  ask(): void;
  /** Re-enables a line with `once`. */
  rearm(): void;
  /** Writes a pending line. */
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

/** Joins and truncates a text to one line: a collector can respond with a web page. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").slice(0, 200);
}

/** Clock of the exporters, replaceable in tests. */
export interface Clock {
  /** Monotonic time in milliseconds. */
  now(): number;
  /** Runs `run` once after a delay in milliseconds. Does not keep the process alive. @returns a function that cancels it. */
  after(delayMs: number, run: () => void): () => void;
}

/** The system's clock and timers. */
export const systemClock: Clock = {
  now: () => performance.now(),
  after(delayMs, run) {
    const timer = setTimeout(run, delayMs).unref();
    return () => clearTimeout(timer);
  },
};
