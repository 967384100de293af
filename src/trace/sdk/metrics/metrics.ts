import { createNoopMeter, type Meter } from "@opentelemetry/api";
import { PrometheusExporter, PrometheusSerializer } from "@opentelemetry/exporter-prometheus";
import { metrics, type resources } from "@opentelemetry/sdk-node";
import type { Clock } from "../clock.js";
import { createBackOff } from "../otlp/back-off.js";
import type { TelemetryLog } from "../otlp/export-report.js";
import { openOtlpTransport } from "../otlp/otlp-exporter.js";
import { measureProcess } from "./measure-process.js";
import { createMetricExporter, type MetricExporter } from "./metric-exporter.js";
import type { MetricsConfig, OtlpMetricsConfig, PrometheusPlace } from "./metrics-config.js";

/** Options of {@link createMetrics}. */
export interface MetricsOptions {
  readonly config: MetricsConfig;
  readonly resource: resources.Resource;
  /** Name of the instrumentation scope. */
  readonly scopeName: string;
  /** Time that a shutdown has for the collector. */
  readonly drainMs: number;
  readonly log: TelemetryLog;
  readonly clock: Clock;
  /** More readers. For tests. */
  readonly readers: readonly metrics.MetricReader[];
}

/** Metrics for Prometheus, and where it shall find them. */
export interface PrometheusMetrics extends PrometheusPlace {
  /** All metrics now, in Prometheus' text format 0.0.4; its last line has no end. Rejects after the telemetry's own end. */
  scrape(): Promise<string>;
}

/** Metrics of one service. */
export interface Metrics {
  /** Makes the instruments; one that measures nothing where nobody reads. */
  readonly meter: Meter;
  /** Undefined where no endpoint is wanted. */
  readonly prometheus: PrometheusMetrics | undefined;
  /** Exports once more and ends, within the time of a shutdown. */
  shutdown(): Promise<void>;
  /** Lets go of what a shutdown left. */
  close(): void;
}

/**
 * Sets up the metrics of one service. Nothing is made global, and nothing is made at all where nobody reads.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createMetrics(options: MetricsOptions): Metrics {
  const { config, resource } = options;
  const exporter = config.otlp && openExporter(config.otlp, options);
  const pull = config.prometheus && new PrometheusExporter({ preventServerStart: true });
  const readers = [
    ...options.readers,
    ...(config.otlp && exporter ? [pushEvery(config.otlp, exporter)] : []),
    ...(pull ? [pull] : []),
  ];
  if (readers.length === 0) {
    return { meter: createNoopMeter(), prometheus: undefined, shutdown: () => Promise.resolve(), close() {} };
  }
  const provider = new metrics.MeterProvider({ resource, readers, views: [callDurations] });
  const meter = provider.getMeter(options.scopeName);
  const endProcess = measureProcess(meter);
  return {
    meter,
    prometheus: pull && config.prometheus && { ...config.prometheus, scrape: () => scrape(pull) },
    async shutdown() {
      exporter?.drain();
      await provider.shutdown();
    },
    close() {
      endProcess();
      exporter?.close();
    },
  };
}

/** The buckets that the conventions advise, and on to ten minutes: they end at 10 s, where many a picture only begins. */
const callDurations: metrics.ViewOptions = {
  instrumentName: "rpc.*.call.duration",
  aggregation: {
    type: metrics.AggregationType.EXPLICIT_BUCKET_HISTOGRAM,
    options: {
      boundaries: [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 30, 60, 120, 300, 600],
    },
  },
};

function openExporter({ exporter, timeoutMs, temporality }: OtlpMetricsConfig, options: MetricsOptions) {
  const { drainMs, clock, log } = options;
  return createMetricExporter({
    transport: openOtlpTransport(exporter),
    temporality,
    tryMs: exporter.timeoutMs,
    timeoutMs,
    drainMs,
    backOff: createBackOff(),
    clock,
    log,
  });
}

function pushEvery({ intervalMs, timeoutMs }: OtlpMetricsConfig, exporter: MetricExporter) {
  return new metrics.PeriodicExportingMetricReader({
    exporter,
    exportIntervalMillis: intervalMs,
    exportTimeoutMillis: timeoutMs,
  });
}

/** Without the scope's labels: all metrics have the same one. */
const serializer = new PrometheusSerializer(undefined, false, undefined, false, true);

async function scrape(reader: metrics.MetricReader): Promise<string> {
  const { resourceMetrics } = await reader.collect();
  return serializer.serialize(resourceMetrics).trimEnd();
}
