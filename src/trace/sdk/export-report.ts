import type { Clock } from "./clock.js";
import { createQuietLine } from "./quiet-line.js";

/** Where trouble with exports is told; a pino logger is one. */
export interface TelemetryLog {
  /** Takes one line, with its fields. */
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
}

/** What spans are lost to: a full queue, the collector's word, the end of the process, or what they hold. */
export const lossCauses = ["queue_full", "rejected", "shutdown", "encoding"] as const;

/** One of {@link lossCauses}. */
export type LossCause = (typeof lossCauses)[number];

export interface ExportReportOptions {
  readonly log: TelemetryLog;
  readonly clock: Clock;
}

/** Tells the log what becomes of spans. OpenTelemetry's SDK says it to a logger that is global to the process, or to nobody. */
export interface ExportReport {
  /** Counts spans that are gone. */
  lost(spans: number, cause: LossCause, reason: string): void;
  /** Says how many spans wait because an export failed that will be tried again. */
  waiting(spans: number, reason: string): void;
  /** Takes back what `waiting` said and the log has not yet. */
  recovered(): void;
  /** Passes on what a collector remarked that took all spans. */
  remark(words: string): void;
  /** Spans gone so far, by what they were lost to. */
  lostSpans(): ReadonlyMap<LossCause, number>;
  /** Tells what is not told yet. Nothing is told afterwards. */
  close(): void;
}

/**
 * A report with at most one line a minute of each kind, the first at once, so that a dead collector does not flood the log. Each
 * line counts all spans lost since the last.
 */
export function createExportReport({ log, clock }: ExportReportOptions): ExportReport {
  const lostSpans = new Map<LossCause, number>();
  let untoldSpans = 0;
  let lossReason = "";
  let wait: { readonly waitingSpans: number; readonly reason: string } | undefined;
  let remark = "";
  const lossLine = createQuietLine(clock, () => {
    log.warn({ lostSpans: untoldSpans, reason: lossReason }, "spans could not be exported");
    untoldSpans = 0;
  });
  const waitLine = createQuietLine(clock, () => {
    if (wait) {
      log.warn(wait, "spans wait for the collector");
    }
  });
  const remarkLine = createQuietLine(clock, () => log.warn({ remark }, "the collector took spans with a remark"));
  return {
    lost(spans, cause, reason) {
      if (spans > 0) {
        lostSpans.set(cause, (lostSpans.get(cause) ?? 0) + spans);
        untoldSpans += spans;
        lossReason = oneLine(reason);
        lossLine.ask();
      }
    },
    waiting(spans, reason) {
      wait = { waitingSpans: spans, reason: oneLine(reason) };
      waitLine.ask();
    },
    recovered() {
      wait = undefined;
    },
    remark(words) {
      remark = oneLine(words);
      remarkLine.ask();
    },
    lostSpans: () => lostSpans,
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
