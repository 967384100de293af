import type { Clock } from "../clock.js";
import { createQuietLine } from "./quiet-line.js";

/** Where trouble with exports is told; a pino logger is one. */
export interface TelemetryLog {
  /** Takes one line, with its fields. */
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** What spans and log records are lost to: a full queue, the collector's word, the end of the process, or what they hold. */
export const lossCauses = ["queue_full", "rejected", "shutdown", "encoding"] as const;

/** One of {@link lossCauses}. */
export type LossCause = (typeof lossCauses)[number];

/** What a report speaks of: the words for them, and the end of the names of its fields. */
export interface ExportedKind {
  readonly words: string;
  readonly field: string;
}

/** Spans. */
export const exportedSpans: ExportedKind = { words: "spans", field: "Spans" };

/** Log records. */
export const exportedLogRecords: ExportedKind = { words: "log records", field: "LogRecords" };

/** Options of {@link createExportReport}. */
export interface ExportReportOptions {
  readonly kind: ExportedKind;
  readonly log: TelemetryLog;
  readonly clock: Clock;
}

/** Tells the log what becomes of what is exported. OpenTelemetry's SDK says it to a logger that is global to the process, or to nobody. */
export interface ExportReport {
  /** Counts items that are gone. */
  lost(items: number, cause: LossCause, reason: string): void;
  /** Says how many items wait because an export failed that will be tried again. */
  waiting(items: number, reason: string): void;
  /** Takes back what `waiting` said and the log has not yet. */
  recovered(): void;
  /** Passes on what a collector remarked that took all. */
  remark(words: string): void;
  /** Items gone so far, by what they were lost to. */
  lostItems(): ReadonlyMap<LossCause, number>;
  /** Tells what is not told yet. Nothing is told afterwards. */
  close(): void;
}

/**
 * A report with at most one line a minute of each kind, the first at once, so that a dead collector does not flood the log. Each
 * line counts all that is lost since the last.
 */
export function createExportReport({ kind, log, clock }: ExportReportOptions): ExportReport {
  const lostItems = new Map<LossCause, number>();
  let untold = 0;
  let lossReason = "";
  let wait: { readonly items: number; readonly reason: string } | undefined;
  let remark = "";
  const lossLine = createQuietLine(clock, () => {
    log.warn({ [`lost${kind.field}`]: untold, reason: lossReason }, `${kind.words} could not be exported`);
    untold = 0;
  });
  const waitLine = createQuietLine(clock, () => {
    if (wait) {
      log.warn({ [`waiting${kind.field}`]: wait.items, reason: wait.reason }, `${kind.words} wait for the collector`);
    }
  });
  const remarkLine = createQuietLine(clock, () =>
    log.warn({ remark }, `the collector took ${kind.words} with a remark`),
  );
  return {
    lost(items, cause, reason) {
      if (items > 0) {
        lostItems.set(cause, (lostItems.get(cause) ?? 0) + items);
        untold += items;
        lossReason = oneLine(reason);
        lossLine.ask();
      }
    },
    waiting(items, reason) {
      wait = { items, reason: oneLine(reason) };
      waitLine.ask();
    },
    recovered() {
      wait = undefined;
    },
    remark(words) {
      remark = oneLine(words);
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

/** One line, cut: what a collector answers can be a whole web page. */
export function oneLine(words: string): string {
  return words.replace(/\s+/g, " ").slice(0, 200);
}
