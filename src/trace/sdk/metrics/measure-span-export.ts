import type { Meter } from "@opentelemetry/api";
import { lossCauses } from "../otlp/export-report.js";
import type { ExportCounts } from "../otlp/queued-exporter.js";

/**
 * Measures what becomes of spans on their way to the collector, by the conventions for an SDK: taken, lost with `error.type`, waiting.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
 */
export function measureSpanExport(meter: Meter, counts: ExportCounts): void {
  const exported = meter.createObservableCounter("otel.sdk.exporter.span.exported", {
    unit: "{span}",
    description: "Spans that the collector took and, with error.type, spans that are lost.",
  });
  const waiting = meter.createObservableUpDownCounter("otel.sdk.exporter.span.inflight", {
    unit: "{span}",
    description: "Spans in the retry queue or on their way.",
  });
  meter.addBatchObservableCallback(
    (result) => {
      result.observe(exported, counts.exported());
      const lost = counts.lost();
      for (const cause of lossCauses) {
        // Zeros too: a series that begins with the first loss shows no increase.
        result.observe(exported, lost.get(cause) ?? 0, { "error.type": cause });
      }
      result.observe(waiting, counts.waiting());
    },
    [exported, waiting],
  );
}
