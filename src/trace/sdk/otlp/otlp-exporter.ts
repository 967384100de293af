import { type Clock, systemClock } from "../clock.js";
import { createBackOff } from "./back-off.js";
import type { ExportQueueLimits } from "./export-queue.js";
import { createExportReport, type ExportedKind, type TelemetryLog } from "./export-report.js";
import type { ExporterConfig } from "./exporter-config.js";
import { createGrpcTransport } from "./grpc-transport.js";
import { createHttpTransport } from "./http-transport.js";
import type { OtlpCodec } from "./otlp-codec.js";
import type { OtlpTransport } from "./otlp-transport.js";
import { createQueuedExporter, type QueuedExporter } from "./queued-exporter.js";

/** Options of {@link createOtlpExporter}. */
export interface OtlpExporterOptions<Item> {
  readonly codec: OtlpCodec<Item>;
  /** What the log calls the items. */
  readonly kind: ExportedKind;
  readonly config: ExporterConfig;
  readonly limits: ExportQueueLimits;
  /** Most that one try may take. */
  readonly timeoutMs: number;
  /** Time that a shutdown has for what is queued. */
  readonly drainMs: number;
  /** Told when items are lost or wait. */
  readonly log: TelemetryLog;
  /** @default the process's time */
  readonly clock?: Clock;
}

/**
 * A way of its own to the collector of a configuration.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function openOtlpTransport(config: ExporterConfig): OtlpTransport {
  return config.protocol === "grpc" ? createGrpcTransport(config) : createHttpTransport(config);
}

/**
 * The exporter for a configuration. It reads nothing of the environment.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createOtlpExporter<Item>(options: OtlpExporterOptions<Item>): QueuedExporter<Item> {
  const { codec, kind, config, log, clock = systemClock } = options;
  return createQueuedExporter({
    codec,
    transport: openOtlpTransport(config),
    timeoutMs: options.timeoutMs,
    limits: options.limits,
    drainMs: options.drainMs,
    backOff: createBackOff(),
    clock,
    report: createExportReport({ kind, log, clock }),
  });
}
