import { type Meter, ProxyTracerProvider, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import { type metrics, resources, tracing } from "@opentelemetry/sdk-node";
import { type Clock, systemClock } from "./clock.js";
import { installContextManager } from "./context-manager.js";
import type { Environment } from "./environment-reader.js";
import { exportedSpans, type TelemetryLog } from "./export-report.js";
import { readLogsConfig } from "./log-config.js";
import { createLogExport, type LogExport } from "./log-export.js";
import { readMetricsConfig } from "./metric-config.js";
import { measureSpanExport } from "./metric-span-export.js";
import { createMetrics, type PrometheusMetrics } from "./metric-telemetry.js";
import { spanCodec } from "./otlp-codec.js";
import { createOtlpExporter, openOtlpTransport } from "./otlp-exporter.js";
import { createPropagator, createSilentPropagator } from "./propagator.js";
import { createRunningSpans } from "./running-spans.js";
import { isSdkDisabled, readTelemetryConfig, type SamplerConfig } from "./telemetry-config.js";

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

/** Tracing and metrics of one service. Several live in one process, each with its own provider. */
export interface Telemetry {
  /** False when tracing is off. Nothing is created then: no provider, no span, no trace id. */
  readonly enabled: boolean;
  readonly tracer: Tracer;
  /** Makes the spans of a painting's stages; none, unless `THROUGHLINE_STAGE_SPANS` wants them. */
  readonly stageTracer: Tracer;
  /** Whether `THROUGHLINE_RPC_SPANS` wants spans by the conventions for RPC. */
  readonly rpcSpans: boolean;
  /** Reads and writes carriers and headers. */
  readonly propagator: TextMapPropagator;
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
 * Sets up tracing for one service, and the process-wide context manager where there is none yet. No tracer provider and no
 * propagator is made global.
 *
 * @throws TelemetryConfigError when a variable holds nonsense.
 */
export function createTelemetry(options: TelemetryOptions): Telemetry {
  const { serviceName, environment, log, clock = systemClock } = options;
  const config = readTelemetryConfig(environment);
  const metricsConfig = readMetricsConfig(environment, options.prometheusPort);
  const measured = createMetrics({
    config: metricsConfig,
    resource: createResource(serviceName, metricsConfig.resourceAttributes),
    scopeName,
    drainMs,
    log,
    clock,
    readers: isSdkDisabled(environment) ? [] : (options.metricReaders ?? []),
  });
  const { meter, prometheus } = measured;
  const logsConfig = readLogsConfig(environment);
  const logExport = createLogExport({
    config: logsConfig,
    resource: createResource(serviceName, logsConfig?.resourceAttributes ?? {}),
    scopeName,
    drainMs,
    log,
    clock,
  });
  const { write: exportLog } = logExport;
  const end = async (part: Pick<LogExport, "shutdown" | "close">) => {
    await settledWithin(part.shutdown(), flushMs);
    // Where the time was not enough, nothing may be left that keeps the process alive.
    part.close();
  };
  if (!config.enabled) {
    return {
      enabled: false,
      tracer: silentTracer,
      stageTracer: silentTracer,
      rpcSpans: false,
      propagator: createSilentPropagator(),
      meter,
      prometheus,
      exportLog,
      shutdown: once(async () => void (await Promise.all([end(measured), end(logExport)]))),
    };
  }
  installContextManager();
  const otlp =
    config.exporter &&
    createOtlpExporter({
      codec: spanCodec,
      kind: exportedSpans,
      config: config.exporter,
      timeoutMs: Math.min(config.exporter.timeoutMs, config.batch.exportTimeoutMillis),
      limits: config.retryQueue,
      drainMs,
      log,
      clock,
    });
  if (otlp) {
    measureSpanExport(meter, otlp);
  }
  const processors: tracing.SpanProcessor[] = (options.exporters ?? []).map(
    (exporter) => new tracing.SimpleSpanProcessor(exporter),
  );
  if (otlp) {
    processors.push(new tracing.BatchSpanProcessor(otlp, { ...config.batch }));
  }
  if (config.exporter && config.runningSpans) {
    processors.push(
      createRunningSpans({
        transport: openOtlpTransport(config.exporter),
        clock,
      }),
    );
  }
  const provider = new tracing.BasicTracerProvider({
    resource: createResource(serviceName, config.resourceAttributes),
    sampler: createSampler(config.sampler),
    spanProcessors: processors,
  });
  const tracer = provider.getTracer(scopeName);
  const spanExport = { shutdown: () => provider.shutdown(), close: () => otlp?.close() };
  return {
    enabled: true,
    tracer,
    stageTracer: config.stageSpans ? tracer : silentTracer,
    rpcSpans: config.rpcSpans,
    propagator: createPropagator(),
    meter,
    prometheus,
    exportLog,
    shutdown: once(async () => void (await Promise.all([end(spanExport), end(measured), end(logExport)]))),
  };
}

/** Name of the instrumentation scope of all our spans. */
const scopeName = "throughline";

/** Makes no spans. */
const silentTracer = new ProxyTracerProvider().getTracer(scopeName);

function createResource(serviceName: string, attributes: Readonly<Record<string, string>>): resources.Resource {
  return resources
    .defaultResource()
    .merge(resources.resourceFromAttributes({ ...attributes, "service.name": serviceName }));
}

function createSampler({ parentBased, ratio }: SamplerConfig): tracing.Sampler {
  const root = createRatioSampler(ratio);
  return parentBased ? new tracing.ParentBasedSampler({ root }) : root;
}

function createRatioSampler(ratio: number): tracing.Sampler {
  if (ratio === 0) {
    return new tracing.AlwaysOffSampler();
  }
  return ratio === 1 ? new tracing.AlwaysOnSampler() : new tracing.TraceIdRatioBasedSampler(ratio);
}

/** Whoever asks again gets the first answer. */
function once(end: () => Promise<void>): () => Promise<void> {
  let ending: Promise<void> | undefined;
  return () => {
    ending ??= end();
    return ending;
  };
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
