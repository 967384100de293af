import { type Meter, ProxyTracerProvider, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import { isSdkDisabled, type VariableReader } from "./environment.js";
import { lossCauses } from "./export-report.js";
import { createConnect } from "./otlp-connection.js";
import { type BatchSettings, type OtlpSettings, readBatchSettings, readOtlpSettings } from "./otlp-settings.js";
import type { ExportCounts, RetryQueueLimits } from "./retry-queue.js";
import { createRunningSpans } from "./running-spans.js";
import { installContextManager, loadSdk, type tracing } from "./sdk.js";
import { createSignalQueue, type SignalContext, type SignalEnd } from "./signal-queue.js";

/** Settings of tracing. */
export interface SpanSettings {
  /** Undefined: spans are created but not exported. */
  readonly exporter: OtlpSettings | undefined;
  /** Creates spans for the stages of a generation. */
  readonly stageSpans: boolean;
  /** Exports running spans too. Only the built-in collector supports it. */
  readonly runningSpans: boolean;
  readonly sampler: SamplerSettings;
  readonly batch: BatchSettings;
  /** Limits of the retry queue. */
  readonly retryQueue: RetryQueueLimits;
}

/** Settings of the sampler. */
export interface SamplerSettings {
  /** Children follow their parent's sampling decision; the ratio then applies to roots only. */
  readonly parentBased: boolean;
  /** Share of sampled traces, 0 to 1. */
  readonly ratio: number;
}

/** Whether `ENABLE_TRACING` and `OTEL_SDK_DISABLED` enable tracing. @throws TelemetryConfigError if `ENABLE_TRACING` is invalid. */
export function wantsTracing(reader: VariableReader): boolean {
  return !isSdkDisabled(reader) && reader.truth("ENABLE_TRACING", true);
}

/**
 * Reads the environment variables of tracing.
 *
 * @returns undefined if tracing is off.
 * @throws TelemetryConfigError if a variable has an invalid value, unless tracing is off.
 */
export function readSpanSettings(reader: VariableReader): SpanSettings | undefined {
  if (!wantsTracing(reader)) {
    return undefined;
  }
  const batch = readBatchSettings(reader, "BSP");
  const minItems = batch.maxExportBatchSize;
  return {
    exporter: readSpanExport(reader),
    stageSpans: reader.truth("THROUGHLINE_STAGE_SPANS", false),
    runningSpans: reader.truth("THROUGHLINE_RUNNING_SPANS", false),
    sampler: readSampler(reader),
    batch,
    retryQueue: {
      maxItems:
        reader.number({ min: minItems, max: 1_000_000 }, "THROUGHLINE_RETRY_QUEUE_SPANS") ?? Math.max(32_768, minItems),
      // Room for 32,768 spans of 2 kB each.
      maxBytes: reader.number({ min: 65_536, max: 2 ** 32 }, "THROUGHLINE_RETRY_QUEUE_BYTES") ?? 64 * 1024 * 1024,
    },
  };
}

/** Reads the export settings of spans. @returns undefined if no endpoint is set, or if `OTEL_TRACES_EXPORTER` is `none`. */
export function readSpanExport(reader: VariableReader): OtlpSettings | undefined {
  const exporter = reader.choice(["otlp", "none"], "OTEL_TRACES_EXPORTER") ?? "otlp";
  return exporter === "otlp" ? readOtlpSettings(reader, "traces") : undefined;
}

const samplers = [
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
  "always_on",
  "always_off",
  "traceidratio",
] as const;

function readSampler(reader: VariableReader): SamplerSettings {
  const share = { min: 0, max: 1, fraction: true };
  const name = reader.choice(samplers, "OTEL_TRACES_SAMPLER");
  const rate = reader.number(share, "OTEL_SAMPLE_RATE");
  const ratio = reader.number(share, "OTEL_TRACES_SAMPLER_ARG") ?? 1;
  if (name === undefined) {
    return { parentBased: true, ratio: rate ?? 1 };
  }
  const ratios = { always_on: 1, always_off: 0, traceidratio: ratio };
  for (const [root, share] of Object.entries(ratios)) {
    if (name.endsWith(root)) {
      return { parentBased: name !== root, ratio: share };
    }
  }
  return { parentBased: true, ratio: 1 };
}

/** Options of {@link createTracing}. */
export interface TracingOptions extends SignalContext {
  /** Undefined: tracing is off. */
  readonly settings: SpanSettings | undefined;
  /** Meter for exported and lost spans. */
  readonly meter: Meter;
  /** Additional exporters. Each receives every sampled span when it ends. For tests. */
  readonly exporters: readonly tracing.SpanExporter[];
}

/** Spans of one service. */
export interface Tracing extends SignalEnd {
  /** False if tracing is off; then there is no provider, no span and no trace id. */
  readonly enabled: boolean;
  readonly tracer: Tracer;
  /** Creates the spans of a generation's stages; a no-op tracer unless `THROUGHLINE_STAGE_SPANS` is true. */
  readonly stageTracer: Tracer;
  /** Reads and writes carriers and headers. */
  readonly propagator: TextMapPropagator;
  /** Counts the exported, lost and waiting spans since the start. Undefined if none are exported. */
  readonly countSpans?:
    | (() => { readonly exported: number; readonly lost: number; readonly waiting: number })
    | undefined;
}

/**
 * Creates the tracing of one service, with its own tracer provider and propagator.
 *
 * Installs the process-wide context manager if there is none. Sets no other globals.
 */
export function createTracing(options: TracingOptions): Tracing {
  const { settings, scopeName, clock } = options;
  const silentTracer = new ProxyTracerProvider().getTracer(scopeName);
  if (settings === undefined) {
    return {
      enabled: false,
      tracer: silentTracer,
      stageTracer: silentTracer,
      propagator: createSilentPropagator(),
      shutdown: () => Promise.resolve(),
      close() {},
    };
  }
  installContextManager();
  const { tracing } = loadSdk();
  const { exporter, runningSpans, stageSpans } = settings;
  const { batch, retryQueue } = settings;
  const queue = exporter && createSignalQueue("traces", exporter, batch.exportTimeoutMillis, retryQueue, options);
  if (queue) {
    measureSpanExport(options.meter, queue);
  }
  const provider = new tracing.BasicTracerProvider({
    resource: options.resource(),
    sampler: createSampler(settings.sampler),
    spanProcessors: [
      ...options.exporters.map((each) => new tracing.SimpleSpanProcessor(each)),
      ...(queue ? [new tracing.BatchSpanProcessor(queue, { ...batch })] : []),
      ...(exporter && runningSpans ? [createRunningSpans({ connect: createConnect("traces", exporter), clock })] : []),
    ],
  });
  const tracer = provider.getTracer(scopeName);
  return {
    enabled: true,
    tracer,
    stageTracer: stageSpans ? tracer : silentTracer,
    propagator: createPropagator(),
    countSpans: queue && (() => countsOf(queue)),
    shutdown: () => provider.shutdown(),
    close: () => queue?.close(),
  };
}

function countsOf(queue: ExportCounts) {
  const lost = [...queue.lost().values()].reduce((sum, count) => sum + count, 0);
  return { exported: queue.exported(), lost, waiting: queue.waiting() };
}

/**
 * Records exported, lost (with `error.type`) and waiting spans, by the semantic conventions for SDKs.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/otel/sdk-metrics/
 */
function measureSpanExport(meter: Meter, counts: ExportCounts): void {
  const exported = meter.createObservableCounter("otel.sdk.exporter.span.exported", {
    unit: "{span}",
    description: "Spans accepted by the collector and, with error.type, lost spans.",
  });
  const waiting = meter.createObservableUpDownCounter("otel.sdk.exporter.span.inflight", {
    unit: "{span}",
    description: "Spans in the retry queue or in flight.",
  });
  meter.addBatchObservableCallback(
    (result) => {
      result.observe(exported, counts.exported());
      const lost = counts.lost();
      for (const cause of lossCauses) {
        // Report zeros too: a series that starts with the first loss shows no increase.
        result.observe(exported, lost.get(cause) ?? 0, { "error.type": cause });
      }
      result.observe(waiting, counts.waiting());
    },
    [exported, waiting],
  );
}

function createSampler({ parentBased, ratio }: SamplerSettings): tracing.Sampler {
  const { AlwaysOffSampler, AlwaysOnSampler, ParentBasedSampler, TraceIdRatioBasedSampler } = loadSdk().tracing;
  const all = ratio === 0 ? new AlwaysOffSampler() : new AlwaysOnSampler();
  const root = ratio === 0 || ratio === 1 ? all : new TraceIdRatioBasedSampler(ratio);
  return parentBased ? new ParentBasedSampler({ root }) : root;
}

/** Creates a propagator of W3C Trace Context (`traceparent`, `tracestate`) and W3C Baggage. Does not set the global one. */
export function createPropagator(): TextMapPropagator {
  const { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } = loadSdk().core;
  return new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] });
}

/** Creates a no-op propagator, used if tracing is off. */
export function createSilentPropagator(): TextMapPropagator {
  return { inject() {}, extract: (scope) => scope, fields: () => [] };
}
