import type { Attributes } from "@opentelemetry/api";
import { loadSdk, type metrics } from "./sdk.js";

/** One series of a metric, read at one moment. */
export interface MetricPoint {
  /** `service.name` of the service that measured it. */
  readonly service: string;
  readonly name: string;
  readonly unit: string;
  readonly attributes: Attributes;
  /** A histogram's is how many values it has, and their sum. */
  readonly value: number | { readonly count: number; readonly sum: number };
}

/** Reads metrics in memory, for tests. */
export interface MetricCollector {
  /** A reader for `createTelemetry({ metricReaders })`; each service needs one of its own. */
  reader(): metrics.MetricReader;
  /** All series of all services now. */
  read(): Promise<MetricPoint[]>;
}

/** Makes a collector that has no services yet. */
export function createMetricCollector(): MetricCollector {
  const readers: metrics.MetricReader[] = [];
  return {
    reader() {
      const { metrics } = loadSdk();
      const { CUMULATIVE } = metrics.AggregationTemporality;
      const reader = new metrics.PeriodicExportingMetricReader({
        exporter: new metrics.InMemoryMetricExporter(CUMULATIVE),
        exportIntervalMillis: neverMs,
      });
      readers.push(reader);
      return reader;
    },
    async read() {
      const collected = await Promise.all(readers.map((reader) => reader.collect()));
      return collected.flatMap(({ resourceMetrics: { resource, scopeMetrics } }) =>
        scopeMetrics.flatMap(({ metrics: found }) =>
          found.flatMap((metric) => pointsOf(String(resource.attributes["service.name"] ?? ""), metric)),
        ),
      );
    },
  };
}

/** The longest time that a timer takes: what is read is read on demand. */
const neverMs = 2 ** 31 - 1;

function pointsOf(service: string, { descriptor: { name, unit }, ...data }: metrics.MetricData): MetricPoint[] {
  return data.dataPoints.map(({ attributes, value }) => ({
    service,
    name,
    unit,
    attributes,
    value: typeof value === "number" ? value : { count: value.count, sum: value.sum ?? 0 },
  }));
}
