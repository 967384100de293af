import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { createNoopMeter, type Meter } from "@opentelemetry/api";
import { maxTimerMs } from "../../timer-limit.js";
import { isSdkDisabled, type VariableReader } from "./environment.js";
import { type OtlpSettings, readOtlpSettings } from "./otlp-settings.js";
import { loadPrometheus, loadSdk, loadTemporalities, type metrics } from "./sdk.js";
import { createSignalQueue, type SignalContext, type SignalEnd } from "./signal-queue.js";

/** Metrics settings of a service. If both are undefined, metrics are off. */
export interface MetricsSettings {
  readonly otlp: OtlpMetricsSettings | undefined;
  readonly prometheus: PrometheusPlace | undefined;
}

/** Settings of metrics export over OTLP. */
export interface OtlpMetricsSettings {
  readonly exporter: OtlpSettings;
  /** Milliseconds between two exports. */
  readonly intervalMs: number;
  /** Aggregation temporality: which metrics count since the last export instead of since the start. */
  readonly temporality: (typeof temporalities)[number];
}

const temporalities = ["cumulative", "delta", "lowmemory"] as const;

/** Listening address of a Prometheus endpoint. */
export interface PrometheusPlace {
  /** Undefined: the app's host. */
  readonly host: string | undefined;
  readonly port: number;
}

/**
 * Reads the environment variables of metrics.
 *
 * @param isTracing default for OTLP export if `OTEL_METRICS_EXPORTER` is not set.
 * @param prometheusPort enables a Prometheus endpoint on this port, whatever the value of `OTEL_METRICS_EXPORTER`.
 * @throws TelemetryConfigError if the endpoint, a file or a header is invalid, unless the SDK is disabled.
 */
export function readMetricsSettings(
  reader: VariableReader,
  isTracing: boolean,
  prometheusPort: number | undefined,
): MetricsSettings {
  if (isSdkDisabled(reader)) {
    return { otlp: undefined, prometheus: undefined };
  }
  const exporters =
    reader.choices(["otlp", "prometheus", "none"], "OTEL_METRICS_EXPORTER") ??
    new Set([isTracing ? ("otlp" as const) : ("none" as const)]);
  const wants = (exporter: "otlp" | "prometheus") => exporters.has(exporter) && !exporters.has("none");
  return {
    otlp: wants("otlp") ? readOtlp(reader) : undefined,
    prometheus: wants("prometheus") || prometheusPort !== undefined ? readPlace(reader, prometheusPort) : undefined,
  };
}

function readOtlp(reader: VariableReader): OtlpMetricsSettings | undefined {
  const bounds = { min: 1, max: maxTimerMs };
  const exporter = readOtlpSettings(reader, "metrics");
  const intervalMs = reader.number(bounds, "OTEL_METRIC_EXPORT_INTERVAL") ?? 60_000;
  const tryMs = reader.number(bounds, "OTEL_METRIC_EXPORT_TIMEOUT") ?? 30_000;
  const temporality = reader.choice(temporalities, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE") ?? "cumulative";
  return (
    exporter && { exporter: { ...exporter, timeoutMs: Math.min(exporter.timeoutMs, tryMs) }, intervalMs, temporality }
  );
}

function readPlace(reader: VariableReader, port: number | undefined): PrometheusPlace {
  return {
    host: reader.text("OTEL_EXPORTER_PROMETHEUS_HOST")?.value,
    port: port ?? reader.number({ min: 0, max: 65_535 }, "OTEL_EXPORTER_PROMETHEUS_PORT") ?? 9464,
  };
}

/** Options of {@link createMetrics}. */
export interface MetricsOptions extends SignalContext {
  readonly settings: MetricsSettings;
  /** Additional readers. For tests. */
  readonly readers: readonly metrics.MetricReader[];
}

/** Metrics and listening address of a Prometheus endpoint. */
export interface PrometheusMetrics extends PrometheusPlace {
  /** Current metrics in Prometheus text format 0.0.4, without a final newline. Rejects after the telemetry's shutdown. */
  scrape(): Promise<string>;
}

/** Metrics of one service. */
export interface Metrics extends SignalEnd {
  /** Creates the instruments; a no-op meter if metrics are off. */
  readonly meter: Meter;
  /** Undefined without a Prometheus endpoint. */
  readonly prometheus: PrometheusMetrics | undefined;
}

/**
 * Creates the metrics of one service. Sets no globals. Creates no provider if metrics are off.
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const { settings, resource } = options;
  if (options.readers.length === 0 && settings.otlp === undefined && settings.prometheus === undefined) {
    return { meter: createNoopMeter(), prometheus: undefined, shutdown: () => Promise.resolve(), close() {} };
  }
  const { metrics } = loadSdk();
  const otlp = settings.otlp && createPushReader(settings.otlp, options);
  const pull = settings.prometheus && createPullReader();
  const readers = [...options.readers, ...(otlp ? [otlp.reader] : []), ...(pull ? [pull.reader] : [])];
  const provider = new metrics.MeterProvider({ resource: resource(), readers, views: [callDurations()] });
  const meter = provider.getMeter(options.scopeName);
  const endProcess = measureProcess(meter);
  return {
    meter,
    prometheus: pull && settings.prometheus && { ...settings.prometheus, scrape: pull.scrape },
    shutdown: () => provider.shutdown(),
    close() {
      endProcess();
      otlp?.close();
    },
  };
}

/** Buckets of the semantic conventions, extended from 10 s to 10 min for slow generations. */
const callDurations = (): metrics.ViewOptions => ({
  instrumentName: "rpc.*.call.duration",
  aggregation: {
    type: loadSdk().metrics.AggregationType.EXPLICIT_BUCKET_HISTOGRAM,
    options: {
      boundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600],
    },
  },
});

/** Limits of the retry queue. Lower than for spans, because the next export supersedes old data points. */
const retryLimits = { maxItems: 16_384, maxBytes: 16 * 1024 * 1024 };

function createPushReader(settings: OtlpMetricsSettings, signal: SignalContext) {
  const { exporter: otlp, intervalMs, temporality } = settings;
  const { CumulativeTemporalitySelector, DeltaTemporalitySelector, LowMemoryTemporalitySelector } = loadTemporalities();
  const selectors = {
    cumulative: CumulativeTemporalitySelector,
    delta: DeltaTemporalitySelector,
    lowmemory: LowMemoryTemporalitySelector,
  };
  const queue = createSignalQueue("metrics", otlp, otlp.timeoutMs, retryLimits, signal);
  const reader = new (loadSdk().metrics.PeriodicExportingMetricReader)({
    exporter: { ...queue, selectAggregationTemporality: selectors[temporality] },
    exportIntervalMillis: intervalMs,
    // The queue accepts an export at once.
    exportTimeoutMillis: intervalMs,
  });
  return { reader, close: queue.close };
}

function createPullReader() {
  const { PrometheusExporter, PrometheusSerializer } = loadPrometheus();
  const reader = new PrometheusExporter({ preventServerStart: true });
  // Without scope labels: all metrics have the same scope.
  const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);
  const scrape = async () => serializer.serialize((await reader.collect()).resourceMetrics).trimEnd();
  return { reader, scrape };
}

/** Sampling interval of the event loop delay, in milliseconds. Shorter blocks are not measured. */
const resolutionMs = 20;

/** Converts a sampled interval in nanoseconds to a delay in seconds. */
const delayOf = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000);

/**
 * Measures event loop delay and utilization, memory and CPU time of the process.
 *
 * Names follow the semantic conventions for Node.js and for processes. Each reading resets the delays.
 *
 * @returns a function that stops the measurement.
 * @see https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/
 * @see https://opentelemetry.io/docs/specs/semconv/system/process-metrics/
 */
export function measureProcess(meter: Meter): () => void {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  let utilization = performance.eventLoopUtilization();

  const delayGauge = (name: string, description: string) =>
    meter.createObservableGauge(`nodejs.eventloop.delay.${name}`, { unit: "s", description });
  const min = delayGauge("min", "Minimum delay of the event loop since the last reading.");
  const max = delayGauge("max", "Maximum delay of the event loop since the last reading.");
  const mean = delayGauge("mean", "Mean delay of the event loop since the last reading.");
  const stddev = delayGauge("stddev", "Standard deviation of the event loop's delay since the last reading.");
  const p50 = delayGauge("p50", "Median delay of the event loop since the last reading.");
  const p90 = delayGauge("p90", "90th percentile of the event loop's delay since the last reading.");
  const p99 = delayGauge("p99", "99th percentile of the event loop's delay since the last reading.");
  const busy = meter.createObservableGauge("nodejs.eventloop.utilization", {
    unit: "1",
    description: "Share of the time since the last reading in which the event loop was busy.",
  });
  const memory = meter.createObservableUpDownCounter("process.memory.usage", {
    unit: "By",
    description: "Resident memory of the process. A worker's engine is another process.",
  });
  const cpu = meter.createObservableCounter("process.cpu.time", { unit: "s", description: "CPU time of the process." });

  meter.addBatchObservableCallback(
    (result) => {
      // Without a sample, min and max are not meaningful.
      if (delays.count > 0) {
        result.observe(min, delayOf(delays.min));
        result.observe(max, delayOf(delays.max));
        result.observe(mean, delayOf(delays.mean));
        result.observe(stddev, delays.stddev / 1e9);
        result.observe(p50, delayOf(delays.percentile(50)));
        result.observe(p90, delayOf(delays.percentile(90)));
        result.observe(p99, delayOf(delays.percentile(99)));
        delays.reset();
      }
      const now = performance.eventLoopUtilization();
      result.observe(busy, performance.eventLoopUtilization(now, utilization).utilization);
      utilization = now;
      result.observe(memory, process.memoryUsage.rss());
      const { user, system } = process.cpuUsage();
      result.observe(cpu, user / 1e6, { "cpu.mode": "user" });
      result.observe(cpu, system / 1e6, { "cpu.mode": "system" });
    },
    [min, max, mean, stddev, p50, p90, p99, busy, memory, cpu],
  );
  return () => void delays.disable();
}
