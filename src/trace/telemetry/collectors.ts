import { type Attributes, type HrTime, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { maxTimerMs } from "../../timer-limit.js";
import type { SpanKindName, SpanRecord } from "../span-record.js";
import { loadSdk, type metrics, type tracing } from "./sdk.js";

/** Keeps finished spans in memory, for tests. */
export interface SpanCollector {
  /** Pass it to `createTelemetry({ exporters: [collector.exporter] })`. Several services can share one collector. */
  readonly exporter: tracing.SpanExporter;
  /** All spans so far, in the order in which they ended. */
  spans(): SpanRecord[];
  /** Resolves with all spans so far when `enough` returns true for them. Rejects with the reason of `signal` if it is aborted. */
  waitFor(enough: (spans: readonly SpanRecord[]) => boolean, signal: AbortSignal): Promise<SpanRecord[]>;
  /** Removes all spans. */
  clear(): void;
}

/** Creates an empty collector. */
export function createSpanCollector(): SpanCollector {
  let collected: SpanRecord[] = [];
  const listeners = new Set<() => void>();
  return {
    exporter: {
      export(spans, settle) {
        collected.push(...spans.map(toRecord));
        for (const listener of [...listeners]) {
          listener();
        }
        settle({ code: loadSdk().core.ExportResultCode.SUCCESS });
      },
      shutdown: () => Promise.resolve(),
    },
    spans: () => [...collected],
    waitFor(enough, signal) {
      return new Promise((resolve, reject) => {
        const settle = () => {
          listeners.delete(check);
          signal.removeEventListener("abort", abort);
        };
        const abort = () => {
          settle();
          reject(signal.reason);
        };
        const check = () => {
          if (!enough(collected)) {
            return;
          }
          settle();
          resolve([...collected]);
        };
        if (signal.aborted) {
          return reject(signal.reason);
        }
        listeners.add(check);
        signal.addEventListener("abort", abort);
        check();
      });
    },
    clear() {
      collected = [];
    },
  };
}

function toRecord(span: tracing.ReadableSpan): SpanRecord {
  const { traceId, spanId, traceState } = span.spanContext();
  return {
    traceId,
    spanId,
    parentSpanId: span.parentSpanContext?.spanId ?? "",
    traceState: traceState?.serialize() ?? "",
    name: span.name,
    kind: kindNames[span.kind],
    service: String(span.resource.attributes["service.name"] ?? ""),
    startUnixNano: toNanos(span.startTime),
    endUnixNano: toNanos(span.endTime),
    attributes: span.attributes,
    events: span.events.map(({ name, time, attributes = {} }) => ({ name, timeUnixNano: toNanos(time), attributes })),
    links: span.links.map(({ context, attributes = {} }) => ({
      traceId: context.traceId,
      spanId: context.spanId,
      attributes,
    })),
    status: { code: statusNames[span.status.code], message: span.status.message ?? "" },
    resource: span.resource.attributes,
  };
}

const kindNames = {
  [SpanKind.INTERNAL]: "INTERNAL",
  [SpanKind.SERVER]: "SERVER",
  [SpanKind.CLIENT]: "CLIENT",
  [SpanKind.PRODUCER]: "PRODUCER",
  [SpanKind.CONSUMER]: "CONSUMER",
} as const satisfies Record<SpanKind, SpanKindName>;

const statusNames = {
  [SpanStatusCode.UNSET]: "UNSET",
  [SpanStatusCode.OK]: "OK",
  [SpanStatusCode.ERROR]: "ERROR",
} as const;

function toNanos([seconds, nanos]: HrTime): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(nanos);
}

/** One series of a metric, read at one moment. */
export interface MetricPoint {
  /** `service.name` of the service that recorded it. */
  readonly service: string;
  readonly name: string;
  readonly unit: string;
  readonly attributes: Attributes;
  /** For a histogram: the number of values and their sum. */
  readonly value: number | { readonly count: number; readonly sum: number };
}

/** Reads metrics in memory, for tests. */
export interface MetricCollector {
  /** Creates a reader for `createTelemetry({ metricReaders })`. Each service needs its own. */
  reader(): metrics.MetricReader;
  /** Reads the current values of all series of all services. */
  read(): Promise<MetricPoint[]>;
}

/** Creates a collector without readers. */
export function createMetricCollector(): MetricCollector {
  const readers: metrics.MetricReader[] = [];
  return {
    reader() {
      const { metrics } = loadSdk();
      const { CUMULATIVE } = metrics.AggregationTemporality;
      const reader = new metrics.PeriodicExportingMetricReader({
        exporter: new metrics.InMemoryMetricExporter(CUMULATIVE),
        // This reader collects on demand only.
        exportIntervalMillis: maxTimerMs,
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

function pointsOf(service: string, { descriptor: { name, unit }, ...data }: metrics.MetricData): MetricPoint[] {
  return data.dataPoints.map(({ attributes, value }) => ({
    service,
    name,
    unit,
    attributes,
    value: typeof value === "number" ? value : { count: value.count, sum: value.sum ?? 0 },
  }));
}
