import { type Meter, ProxyTracerProvider, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import { type resources, tracing } from "@opentelemetry/sdk-node";
import type { Clock } from "../clock.js";
import { installContextManager } from "../context-manager.js";
import { measureSpanExport } from "../metrics/measure-span-export.js";
import { exportedSpans, type TelemetryLog } from "../otlp/export-report.js";
import { spanCodec } from "../otlp/otlp-codec.js";
import { createOtlpExporter, openOtlpTransport } from "../otlp/otlp-exporter.js";
import { createPropagator, createSilentPropagator } from "../propagator.js";
import { createRunningSpans } from "./running-spans.js";
import type { EnabledTracingConfig, SamplerConfig, TracingConfig } from "./tracing-config.js";

/** Options of {@link createTracing}. */
export interface TracingOptions {
  readonly config: TracingConfig;
  readonly resource: resources.Resource;
  /** Name of the instrumentation scope. */
  readonly scopeName: string;
  /** Time that a shutdown has for the collector. */
  readonly drainMs: number;
  /** Measures what is exported and what is lost. */
  readonly meter: Meter;
  readonly log: TelemetryLog;
  readonly clock: Clock;
  /** More exporters; each gets every sampled span at the moment it ends. For tests. */
  readonly exporters: readonly tracing.SpanExporter[];
}

/** Spans of one service. */
export interface Tracing {
  /** False when tracing is off. Nothing is created then: no provider, no span, no trace id. */
  readonly enabled: boolean;
  readonly tracer: Tracer;
  /** Makes the spans of a painting's stages; none, unless `THROUGHLINE_STAGE_SPANS` wants them. */
  readonly stageTracer: Tracer;
  /** Whether `THROUGHLINE_RPC_SPANS` wants spans by the conventions for RPC. */
  readonly rpcSpans: boolean;
  /** Reads and writes carriers and headers. */
  readonly propagator: TextMapPropagator;
  /** Exports what is left, within the time of a shutdown. */
  shutdown(): Promise<void>;
  /** Lets go of what a shutdown left. */
  close(): void;
}

/**
 * Sets up the spans of one service, and the process-wide context manager where there is none yet. No tracer provider and no
 * propagator is made global.
 *
 * @throws TelemetryConfigError when a header cannot be sent.
 */
export function createTracing(options: TracingOptions): Tracing {
  const { config, resource, scopeName } = options;
  const silentTracer = new ProxyTracerProvider().getTracer(scopeName);
  if (!config.enabled) {
    return {
      enabled: false,
      tracer: silentTracer,
      stageTracer: silentTracer,
      rpcSpans: false,
      propagator: createSilentPropagator(),
      shutdown: () => Promise.resolve(),
      close() {},
    };
  }
  installContextManager();
  const otlp = config.exporter && openExporter(config, config.exporter, options);
  const processors: tracing.SpanProcessor[] = [
    ...options.exporters.map((exporter) => new tracing.SimpleSpanProcessor(exporter)),
    ...(otlp ? [new tracing.BatchSpanProcessor(otlp, { ...config.batch })] : []),
    ...(config.exporter && config.runningSpans
      ? [createRunningSpans({ transport: openOtlpTransport(config.exporter), clock: options.clock })]
      : []),
  ];
  const provider = new tracing.BasicTracerProvider({
    resource,
    sampler: createSampler(config.sampler),
    spanProcessors: processors,
  });
  const tracer = provider.getTracer(scopeName);
  return {
    enabled: true,
    tracer,
    stageTracer: config.stageSpans ? tracer : silentTracer,
    rpcSpans: config.rpcSpans,
    propagator: createPropagator(),
    shutdown: () => provider.shutdown(),
    close: () => otlp?.close(),
  };
}

function openExporter(
  { batch, retryQueue }: EnabledTracingConfig,
  config: NonNullable<EnabledTracingConfig["exporter"]>,
  { drainMs, meter, log, clock }: TracingOptions,
) {
  const otlp = createOtlpExporter({
    codec: spanCodec,
    kind: exportedSpans,
    config,
    timeoutMs: Math.min(config.timeoutMs, batch.exportTimeoutMillis),
    limits: retryQueue,
    drainMs,
    log,
    clock,
  });
  measureSpanExport(meter, otlp);
  return otlp;
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
