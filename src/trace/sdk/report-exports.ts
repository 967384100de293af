import { core, type tracing } from "@opentelemetry/sdk-node";

/** Where trouble with exports is told; a pino logger is one. */
export interface TelemetryLog {
  warn(fields: Readonly<Record<string, unknown>>, message: string): void;
}

export interface ReportExportsOptions {
  readonly exporter: tracing.SpanExporter;
  readonly log: TelemetryLog;
  /** At most one line in so many milliseconds; the default of a minute keeps a dead collector from flooding the log. */
  readonly intervalMs?: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number;
}

/**
 * An exporter that also tells the log when spans are lost: the first failure at once, later ones at most once in an interval, each
 * line with the number of spans lost since the last. The SDK itself says it to a logger that is global to the process, or to
 * nobody.
 */
export function reportExports({ exporter, log, ...options }: ReportExportsOptions): tracing.SpanExporter {
  const intervalMs = options.intervalMs ?? 60_000;
  const now = options.now ?? (() => performance.now());
  let lost = 0;
  let quietUntil = Number.NEGATIVE_INFINITY;
  const report = (error: Error | undefined, spans: number) => {
    lost += spans;
    if (now() < quietUntil) {
      return;
    }
    log.warn({ lostSpans: lost, reason: reasonOf(error) }, "spans could not be exported");
    lost = 0;
    quietUntil = now() + intervalMs;
  };
  return {
    export(spans, settle) {
      exporter.export(spans, (result) => {
        if (result.code !== core.ExportResultCode.SUCCESS) {
          report(result.error, spans.length);
        }
        settle(result);
      });
    },
    forceFlush: () => exporter.forceFlush?.() ?? Promise.resolve(),
    shutdown: () => exporter.shutdown(),
  };
}

/** One line, cut: what a collector answers can be a whole web page. */
function reasonOf(error: Error | undefined): string {
  return (error?.message ?? "unknown").replace(/\s+/g, " ").slice(0, 200);
}
