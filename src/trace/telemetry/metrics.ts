import { monitorEventLoopDelay, performance } from "node:perf_hooks";
import { createNoopMeter, type Meter } from "@opentelemetry/api";
import { isSdkDisabled, maxTimerMs, type VariableReader } from "./environment.js";
import { type OtlpSettings, readOtlpSettings } from "./otlp-settings.js";
import { loadPrometheus, loadSdk, loadTemporalities, type metrics } from "./sdk.js";
import { createSignalQueue, type SignalContext, type SignalEnd } from "./signal-queue.js";

/** How the metrics of a service are read. With neither way there are none. */
export interface MetricsSettings {
  readonly otlp: OtlpMetricsSettings | undefined;
  readonly prometheus: PrometheusPlace | undefined;
}

/** How metrics are pushed. */
export interface OtlpMetricsSettings {
  readonly exporter: OtlpSettings;
  /** Between two exports. */
  readonly intervalMs: number;
  /** Which metrics count from the last export on instead of from the start. */
  readonly temporality: (typeof temporalities)[number];
}

const temporalities = ["cumulative", "delta", "lowmemory"] as const;

/** Where a Prometheus endpoint listens. */
export interface PrometheusPlace {
  /** Undefined: where the app does. */
  readonly host: string | undefined;
  readonly port: number;
}

/**
 * Reads the variables for metrics.
 *
 * @param isTracing without tracing, nothing is exported unless `OTEL_METRICS_EXPORTER` asks for it.
 * @param prometheusPort port of a Prometheus endpoint that is wanted whatever `OTEL_METRICS_EXPORTER` says.
 * @throws TelemetryConfigError when the endpoint, a file or a header cannot be used, unless the SDK is off.
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
  /** More readers. For tests. */
  readonly readers: readonly metrics.MetricReader[];
}

/** Metrics for Prometheus, and where it shall find them. */
export interface PrometheusMetrics extends PrometheusPlace {
  /** All metrics now, in Prometheus' text format 0.0.4; its last line has no end. Rejects after the telemetry's own end. */
  scrape(): Promise<string>;
}

/** Metrics of one service. */
export interface Metrics extends SignalEnd {
  /** Makes the instruments; one that measures nothing where nobody reads. */
  readonly meter: Meter;
  /** Undefined where no endpoint is wanted. */
  readonly prometheus: PrometheusMetrics | undefined;
}

/**
 * Sets up the metrics of one service. Nothing is made global, and nothing is made at all where nobody reads.
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

/** The buckets that the conventions advise, and on to ten minutes: they end at 10 s, where many an image only begins. */
const callDurations = (): metrics.ViewOptions => ({
  instrumentName: "rpc.*.call.duration",
  aggregation: {
    type: loadSdk().metrics.AggregationType.EXPLICIT_BUCKET_HISTOGRAM,
    options: {
      boundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600],
    },
  },
});

/** Data points are read elsewhere too, and the next export brings newer ones: fewer are kept than spans. */
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
  // Without the scope's labels: all metrics have the same one.
  const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);
  const scrape = async () => serializer.serialize((await reader.collect()).resourceMetrics).trimEnd();
  return { reader, scrape };
}

/** How often the delay is looked at, in milliseconds: what blocks for less is not seen. */
const resolutionMs = 20;

/** The histogram's values are the times between two looks, in nanoseconds. @returns how much too long they are, in seconds. */
const delayOf = (nanoseconds: number) => Math.max(0, nanoseconds / 1e9 - resolutionMs / 1000);

/**
 * Measures the process by the conventions for Node.js and for processes: how late its event loop is and how busy, its memory, its CPU time.
 * The delays are those since the last time that anybody read them.
 *
 * @returns what ends it.
 * @see https://opentelemetry.io/docs/specs/semconv/runtime/nodejs-metrics/
 * @see https://opentelemetry.io/docs/specs/semconv/system/process-metrics/
 */
export function measureProcess(meter: Meter): () => void {
  const delays = monitorEventLoopDelay({ resolution: resolutionMs });
  delays.enable();
  let utilization = performance.eventLoopUtilization();

  const delayGauge = (name: string, description: string) =>
    meter.createObservableGauge(`nodejs.eventloop.delay.${name}`, { unit: "s", description });
  const min = delayGauge("min", "Least delay of the event loop since the last reading.");
  const max = delayGauge("max", "Longest delay of the event loop since the last reading.");
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
      // Without a sample there is no delay to tell of.
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
