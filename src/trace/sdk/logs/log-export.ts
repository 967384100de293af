import { logs, type resources } from "@opentelemetry/sdk-node";
import type { Clock } from "../clock.js";
import { exportedLogRecords, type TelemetryLog } from "../otlp/export-report.js";
import { logRecordCodec } from "../otlp/otlp-codec.js";
import { createOtlpExporter } from "../otlp/otlp-exporter.js";
import { logRecordOfLine } from "./log-record-of-line.js";
import type { LogsConfig } from "./logs-config.js";

/** Options of {@link createLogExport}. */
export interface LogExportOptions {
  /** Undefined: nothing is exported. */
  readonly config: LogsConfig | undefined;
  readonly resource: resources.Resource;
  /** Name of the instrumentation scope. */
  readonly scopeName: string;
  /** Time that a shutdown has for what is queued. */
  readonly drainMs: number;
  /** Told when records are lost or wait. It may be the log that is exported: a line a minute goes the same way. */
  readonly log: TelemetryLog;
  readonly clock: Clock;
}

/** Exports the log of one service. */
export interface LogExport {
  /** Takes a line of the log; see {@link logRecordOfLine}. What is none is left out. */
  write(line: string): void;
  /** Exports what is left, within the time of a shutdown. */
  shutdown(): Promise<void>;
  /** Lets go of what a shutdown left. */
  close(): void;
}

/** What is kept while the collector is away. Lines stand elsewhere too, so it is less than for spans, and has no variables. */
const retryQueue = { maxItems: 8192, maxBytes: 16 * 1024 * 1024 };

/**
 * Sets up the export of one service's log. Nothing is made global, and nothing is made at all where no log is exported.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createLogExport({ config, resource, scopeName, ...options }: LogExportOptions): LogExport {
  if (config === undefined) {
    return { write() {}, shutdown: () => Promise.resolve(), close() {} };
  }
  const { exporter, batch } = config;
  const otlp = createOtlpExporter({
    codec: logRecordCodec,
    kind: exportedLogRecords,
    config: exporter,
    timeoutMs: Math.min(exporter.timeoutMs, batch.exportTimeoutMillis),
    limits: retryQueue,
    ...options,
  });
  const processor = new logs.BatchLogRecordProcessor({ exporter: otlp, ...batch });
  const provider = new logs.LoggerProvider({ resource, processors: [processor] });
  const logger = provider.getLogger(scopeName);
  return {
    write(line) {
      const record = logRecordOfLine(line);
      if (record !== undefined) {
        logger.emit(record);
      }
    },
    shutdown: () => provider.shutdown(),
    close: otlp.close,
  };
}
