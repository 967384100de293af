import { type Environment, readChoice, readNumber, readSetting, readTruth, refuse } from "../environment-reader.js";
import { type BatchConfig, readBatchConfig } from "../otlp/batch-config.js";
import type { ExportQueueLimits } from "../otlp/export-queue.js";
import { type ExporterConfig, readExporterConfig } from "../otlp/exporter-config.js";
import { isSdkDisabled, wantsTracing } from "../switches.js";

/** How tracing is set up, as the environment says. */
export type TracingConfig = { readonly enabled: false } | EnabledTracingConfig;

export interface EnabledTracingConfig {
  readonly enabled: true;
  /** Absent: spans are made and not exported. */
  readonly exporter: ExporterConfig | undefined;
  /** Whether calls have spans by the conventions for RPC, besides the app's own. */
  readonly rpcSpans: boolean;
  /** Whether the stages of a painting have spans. */
  readonly stageSpans: boolean;
  /** Whether spans are exported while they run too, which only this project's collector understands. */
  readonly runningSpans: boolean;
  readonly sampler: SamplerConfig;
  readonly batch: BatchConfig;
  /** What is kept while the collector is away. */
  readonly retryQueue: ExportQueueLimits;
}

export interface SamplerConfig {
  /** Whether a sampled parent makes its children sampled; the rest then counts for roots only. */
  readonly parentBased: boolean;
  /** Share of traces that are sampled, 0 to 1. */
  readonly ratio: number;
}

/**
 * Reads the variables for spans.
 *
 * @throws TelemetryConfigError when one holds nonsense, unless tracing is off.
 */
export function readTracingConfig(environment: Environment): TracingConfig {
  if (isSdkDisabled(environment) || !wantsTracing(environment)) {
    return { enabled: false };
  }
  const batch = readBatchConfig(environment, "BSP");
  return {
    enabled: true,
    exporter: readSpanExporterConfig(environment),
    rpcSpans: readTruth(readSetting(environment, "THROUGHLINE_RPC_SPANS"), false),
    stageSpans: readTruth(readSetting(environment, "THROUGHLINE_STAGE_SPANS"), false),
    runningSpans: readTruth(readSetting(environment, "THROUGHLINE_RUNNING_SPANS"), false),
    sampler: readSampler(environment),
    batch,
    retryQueue: readRetryQueue(environment, batch),
  };
}

/**
 * Where spans go.
 *
 * @returns undefined where no endpoint is set, or where `OTEL_TRACES_EXPORTER` is `none`.
 * @throws TelemetryConfigError when a variable holds nonsense.
 */
export function readSpanExporterConfig(environment: Environment): ExporterConfig | undefined {
  const exporter = readChoice(readSetting(environment, "OTEL_TRACES_EXPORTER"), ["otlp", "none"], "otlp");
  return exporter === "otlp" ? readExporterConfig(environment, "traces") : undefined;
}

const samplers = [
  "parentbased_always_on",
  "parentbased_always_off",
  "parentbased_traceidratio",
  "always_on",
  "always_off",
  "traceidratio",
] as const;

function readSampler(environment: Environment): SamplerConfig {
  const readShare = (setting: ReturnType<typeof readSetting>) =>
    readNumber(setting, { min: 0, max: 1, integer: false });
  const sampler = readSetting(environment, "OTEL_TRACES_SAMPLER");
  const name = readChoice(sampler, samplers, "parentbased_always_on");
  const share = readShare(readSetting(environment, "OTEL_TRACES_SAMPLER_ARG")) ?? 1;
  const rate = readShare(readSetting(environment, "OTEL_SAMPLE_RATE"));
  if (sampler === undefined && rate !== undefined) {
    return { parentBased: true, ratio: rate };
  }
  const parentBased = name.startsWith("parentbased_");
  if (name.endsWith("always_on")) {
    return { parentBased, ratio: 1 };
  }
  if (name.endsWith("always_off")) {
    return { parentBased, ratio: 0 };
  }
  return { parentBased, ratio: share };
}

/** Bytes of encoded spans that are kept by default; room for 32,768 spans of 2 kB each. */
const defaultQueueBytes = 64 * 1024 * 1024;

function readRetryQueue(environment: Environment, { maxExportBatchSize }: BatchConfig): ExportQueueLimits {
  const spans = readSetting(environment, "THROUGHLINE_RETRY_QUEUE_SPANS");
  const bytes = readSetting(environment, "THROUGHLINE_RETRY_QUEUE_BYTES");
  const maxItems = readNumber(spans, { min: 1, max: 1_000_000, integer: true }) ?? Math.max(32_768, maxExportBatchSize);
  if (spans !== undefined && maxItems < maxExportBatchSize) {
    refuse(spans, `at least the size of a batch, which is ${maxExportBatchSize}`);
  }
  const maxBytes = readNumber(bytes, { min: 65_536, max: 2 ** 32, integer: true }) ?? defaultQueueBytes;
  return { maxItems, maxBytes };
}
