import type { Meter } from "@opentelemetry/api";
import { createVariableReader, type Environment, isSdkDisabled, type TelemetryLog } from "./environment.js";
import { type Clock, systemClock } from "./export-report.js";
import { createLogExport, readLogSettings } from "./log-export.js";
import { createMetrics, type PrometheusMetrics, readMetricsSettings } from "./metrics.js";
import { readPairs } from "./otlp-settings.js";
import { loadSdk, type metrics, type resources, type tracing } from "./sdk.js";
import type { SignalEnd } from "./signal-queue.js";
import { createTracing, readSpanSettings, type Tracing } from "./spans.js";

/** Options of {@link createTelemetry}. */
export interface TelemetryOptions {
  /** `service.name` of the resource. `OTEL_SERVICE_NAME` does not override it. */
  readonly serviceName: string;
  /** Environment variables to read, usually `process.env`; see `telemetryVariables`. */
  readonly environment: Environment;
  /** Log for lost items, and for items that wait because the collector is unavailable. */
  readonly log: TelemetryLog;
  /** Clock for retries of an export. For tests. @default the system's clock */
  readonly clock?: Clock;
  /** Additional exporters. Each receives every sampled span when it ends. For tests. */
  readonly exporters?: readonly tracing.SpanExporter[];
  /** Enables a Prometheus endpoint on this port, whatever the value of `OTEL_METRICS_EXPORTER`. @default none */
  readonly prometheusPort?: number | undefined;
  /** Additional metric readers. For tests. */
  readonly metricReaders?: readonly metrics.MetricReader[];
}

/** Spans, metrics and logs of one service. Services in one process have separate providers. */
export interface Telemetry extends Omit<Tracing, "close"> {
  /** Creates instruments; a no-op meter if metrics are off. */
  readonly meter: Meter;
  /** Metrics and address for a Prometheus endpoint; undefined if it is off. The telemetry itself opens no port. */
  readonly prometheus: PrometheusMetrics | undefined;
  /** Exports a line of the service's log, a JSON object, if `OTEL_LOGS_EXPORTER` is `otlp`. */
  readonly exportLog: (line: string) => void;
  /**
   * Exports the remaining items and closes, within 4 s. Never rejects; logs the items that it could not export. Does not keep the
   * process alive afterwards.
   */
  shutdown(): Promise<void>;
}

/** Timeout of the last export, in milliseconds. Below the 4 s of a shutdown, because timers are late on a busy machine. */
export const flushMs = 3500;

/** Share of `flushMs` for the collector. The rest is for the report of lost items. */
const drainMs = 3300;

/**
 * Creates traces, metrics and log export of one service.
 *
 * Each signal has its own environment variables. Sets no globals except the context manager and OpenTelemetry's diagnostic logger, if
 * there is none yet.
 *
 * @throws TelemetryConfigError if a variable has an invalid value. Invalid numbers and enumerations in `OTEL_*` are ignored with a
 * warning in the log.
 */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { serviceName, log, clock = systemClock } = options;
  const { isDisabled, spanSettings, metricsSettings, logSettings, attributes } = readTelemetrySettings(options);
  let made: resources.Resource | undefined;
  const resource = () => {
    const { defaultResource, resourceFromAttributes } = loadSdk().resources;
    made ??= defaultResource().merge(resourceFromAttributes({ ...attributes, "service.name": serviceName }));
    return made;
  };
  const shared = { resource, scopeName, drainMs, log, clock };

  const measured = createMetrics({
    ...shared,
    settings: metricsSettings,
    readers: isDisabled ? [] : (options.metricReaders ?? []),
  });
  const { meter, prometheus } = measured;
  const logExport = createLogExport(logSettings, shared);
  const { close, shutdown, ...traced } = createTracing({
    ...shared,
    settings: spanSettings,
    meter,
    exporters: options.exporters ?? [],
  });

  let ending: Promise<unknown> | undefined;
  return {
    ...traced,
    meter,
    prometheus,
    exportLog: logExport.write,
    async shutdown() {
      ending ??= Promise.all([{ close, shutdown }, measured, logExport].map(endSignal));
      await ending;
    },
  };
}

/**
 * Reads the settings of all signals. Opens nothing.
 *
 * @throws TelemetryConfigError as {@link createTelemetry} does.
 */
export function readTelemetrySettings(options: Pick<TelemetryOptions, "environment" | "log" | "prometheusPort">) {
  const reader = createVariableReader(options.environment, options.log);
  const isDisabled = isSdkDisabled(reader);
  const spanSettings = readSpanSettings(reader);
  const metricsSettings = readMetricsSettings(reader, spanSettings !== undefined, options.prometheusPort);
  const logSettings = readLogSettings(reader);
  const attributes = isDisabled ? {} : readPairs(reader.text("OTEL_RESOURCE_ATTRIBUTES"));
  return { isDisabled, spanSettings, metricsSettings, logSettings, attributes };
}

/** Name of the instrumentation scope. */
const scopeName = "throughline";

async function endSignal(signal: SignalEnd): Promise<void> {
  await settledWithin(signal.shutdown(), flushMs);
  // After a timeout, release everything that keeps the process alive.
  signal.close();
}

/** Waits until a promise settles or the timeout elapses. */
async function settledWithin(promise: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([promise.catch(() => {}), timeout]);
  clearTimeout(timer);
}
