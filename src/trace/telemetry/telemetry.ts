import type { Meter } from "@opentelemetry/api";
import { createVariableReader, type Environment, isSdkDisabled, type TelemetryLog } from "./environment.js";
import { type Clock, systemClock } from "./export-report.js";
import { createLogExport, readLogSettings } from "./log-export.js";
import { createMetrics, type PrometheusMetrics, readMetricsSettings } from "./metrics.js";
import { readPairs } from "./otlp-settings.js";
import { loadSdk, type metrics, type resources, type tracing } from "./sdk.js";
import type { SignalEnd } from "./signal-queue.js";
import { createTracing, readSpanSettings, type Tracing } from "./spans.js";

/** How the telemetry of one service is set up. */
export interface TelemetryOptions {
  /** `service.name` of the resource, fixed per app: `OTEL_SERVICE_NAME` does not change it. */
  readonly serviceName: string;
  /** Variables to read, `process.env` in a program; see `telemetryVariables`. */
  readonly environment: Environment;
  /** Told when spans are lost, or wait because the collector is away. */
  readonly log: TelemetryLog;
  /** Time between tries of an export. For tests. @default the process's time */
  readonly clock?: Clock;
  /** More exporters; each gets every sampled span at the moment it ends. For tests. */
  readonly exporters?: readonly tracing.SpanExporter[];
  /** Port of a Prometheus endpoint that is wanted whatever `OTEL_METRICS_EXPORTER` says. @default none */
  readonly prometheusPort?: number | undefined;
  /** More readers of the metrics. For tests. */
  readonly metricReaders?: readonly metrics.MetricReader[];
}

/** Spans, metrics and logs of one service. Several live in one process, each with its own providers. */
export interface Telemetry extends Omit<Tracing, "close"> {
  /** Makes instruments; they measure nothing where nobody reads metrics. */
  readonly meter: Meter;
  /** What a Prometheus endpoint is to serve, and where; undefined where none is wanted. The telemetry opens no port itself. */
  readonly prometheus: PrometheusMetrics | undefined;
  /** Takes a line of the service's log, a JSON object, and exports it where `OTEL_LOGS_EXPORTER` wants that. */
  readonly exportLog: (line: string) => void;
  /**
   * Exports what is left and closes, within 4 s whatever the collector does. Never rejects; what could not be exported is in the
   * log. Nothing keeps the process alive afterwards.
   */
  shutdown(): Promise<void>;
}

/** Time for the last export. The 4 s that a shutdown has are more, because timers are late on a busy machine. */
export const flushMs = 3500;

/** Of that, the time for the collector. The rest is for saying what could not be exported. */
const drainMs = 3300;

/**
 * Sets up the three signals of one service, each by its own variables. Nothing is made global but the context manager and the logger of
 * OpenTelemetry's diagnostics, where there is none yet.
 *
 * @throws TelemetryConfigError when a variable holds what the service cannot start with. Numbers and enumerations of `OTEL_*` that mean
 * nothing are ignored, with a warning in the log.
 */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { serviceName, environment, log, clock = systemClock } = options;
  const reader = createVariableReader(environment, log);
  const isDisabled = isSdkDisabled(reader);
  const spanSettings = readSpanSettings(reader);
  const metricsSettings = readMetricsSettings(reader, spanSettings !== undefined, options.prometheusPort);
  const logSettings = readLogSettings(reader);
  const attributes = isDisabled ? {} : readPairs(reader.text("OTEL_RESOURCE_ATTRIBUTES"));
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

/** Name of the instrumentation scope of everything that we make. */
const scopeName = "throughline";

async function endSignal(signal: SignalEnd): Promise<void> {
  await settledWithin(signal.shutdown(), flushMs);
  // Where the time was not enough, nothing may be left that keeps the process alive.
  signal.close();
}

/** Waits for a promise to settle either way, but no longer than this. */
async function settledWithin(promise: Promise<void>, timeoutMs: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([promise.catch(() => {}), timeout]);
  clearTimeout(timer);
}
