import type { TelemetryLog } from "./environment.js";
import { type Clock, createExportReport, type ExportedKind } from "./export-report.js";
import { createConnect, type ExportBatches } from "./otlp-connection.js";
import type { OtlpSettings, Signal } from "./otlp-settings.js";
import { createRetryQueue, type RetryQueue, type RetryQueueLimits } from "./retry-queue.js";
import { loadSerializers, type resources } from "./sdk.js";

/** Common settings of a service's signals. */
export interface SignalContext {
  readonly resource: () => resources.Resource;
  /** Name of the instrumentation scope. */
  readonly scopeName: string;
  /** Time for the collector at shutdown, in milliseconds. */
  readonly drainMs: number;
  /** Receives reports of lost and waiting items. For logs it can be the exported log itself: at most one line per minute. */
  readonly log: TelemetryLog;
  readonly clock: Clock;
}

/** A signal that can be shut down. */
export interface SignalEnd {
  /** Exports the remaining items within the time of a shutdown. */
  shutdown(): Promise<void>;
  /** Releases the remaining resources after a shutdown. */
  close(): void;
}

interface SignalKind<Batch> {
  readonly kind: ExportedKind;
  readonly count: (batch: Batch) => number;
  readonly encode: (batch: Batch) => Uint8Array | undefined;
}

const kinds: { readonly [S in Signal]: SignalKind<ExportBatches[S]> } = {
  traces: {
    kind: { name: "spans", field: "Spans" },
    count: ({ length }) => length,
    encode: (spans) => loadSerializers().ProtobufTraceSerializer.serializeRequest(spans),
  },
  metrics: {
    // Many backends accept traces but no metrics: log that once, not every minute.
    kind: {
      name: "metrics",
      field: "DataPoints",
      once: true,
      hint: "not repeated before an export succeeds; OTEL_METRICS_EXPORTER=none exports none",
    },
    count: ({ scopeMetrics }) =>
      scopeMetrics.flatMap(({ metrics }) => metrics).reduce((points, { dataPoints }) => points + dataPoints.length, 0),
    encode: (batch) => loadSerializers().ProtobufMetricsSerializer.serializeRequest(batch),
  },
  logs: {
    kind: { name: "log records", field: "LogRecords" },
    count: ({ length }) => length,
    encode: (records) => loadSerializers().ProtobufLogsSerializer.serializeRequest(records),
  },
};

/**
 * Creates the retry queue of one signal.
 *
 * @param timeoutMs timeout of one attempt, in milliseconds; the lower of this and the exporter's own applies.
 */
export function createSignalQueue<S extends Signal>(
  signal: S,
  exporter: OtlpSettings,
  timeoutMs: number,
  limits: RetryQueueLimits,
  { drainMs, log, clock }: SignalContext,
): RetryQueue<ExportBatches[S]> {
  const { kind, count, encode } = kinds[signal];
  return createRetryQueue<ExportBatches[S]>({
    connect: createConnect(signal, exporter),
    count,
    size: (batch) => encode(batch)?.byteLength ?? 0,
    limits,
    timeoutMs: Math.min(exporter.timeoutMs, timeoutMs),
    drainMs,
    report: createExportReport(kind, log, clock),
    clock,
  });
}
