import { type Environment, maxTimerMs, readChoice, readNumber, readSetting, refuse } from "../environment-reader.js";
import { type ExporterConfig, readExporterConfig } from "../otlp/exporter-config.js";
import { isSdkDisabled, wantsTracing } from "../switches.js";

/** Where metrics go. With neither way there are none. */
export interface MetricsConfig {
  readonly otlp: OtlpMetricsConfig | undefined;
  readonly prometheus: PrometheusPlace | undefined;
}

/** How metrics are pushed. */
export interface OtlpMetricsConfig {
  readonly exporter: ExporterConfig;
  /** Between two exports. */
  readonly intervalMs: number;
  /** How long an export is tried for, with all its tries. */
  readonly timeoutMs: number;
  readonly temporality: TemporalityPreference;
}

/** Where a Prometheus endpoint listens. */
export interface PrometheusPlace {
  /** Undefined: where the app does. */
  readonly host: string | undefined;
  readonly port: number;
}

const temporalities = ["cumulative", "delta", "lowmemory"] as const;

/**
 * Which numbers count from the last export on instead of from the start: none, those of counters and histograms, or those of them that
 * need no memory for it.
 *
 * @see https://opentelemetry.io/docs/specs/otel/metrics/sdk_exporters/otlp/#additional-environment-variable-configuration
 */
export type TemporalityPreference = (typeof temporalities)[number];

/**
 * Reads the variables for metrics.
 *
 * @param prometheusPort port of a Prometheus endpoint that is wanted whatever `OTEL_METRICS_EXPORTER` says.
 * @throws TelemetryConfigError when one holds nonsense, unless the SDK is off.
 */
export function readMetricsConfig(environment: Environment, prometheusPort?: number): MetricsConfig {
  if (isSdkDisabled(environment)) {
    return { otlp: undefined, prometheus: undefined };
  }
  const exporters = readExporters(environment);
  return {
    otlp: exporters.has("otlp") ? readOtlp(environment) : undefined,
    prometheus:
      exporters.has("prometheus") || prometheusPort !== undefined ? readPlace(environment, prometheusPort) : undefined,
  };
}

/** Whoever switches tracing off, and says nothing of metrics, wants nothing exported. */
function readExporters(environment: Environment): ReadonlySet<string> {
  const setting = readSetting(environment, "OTEL_METRICS_EXPORTER");
  if (setting === undefined) {
    return new Set(wantsTracing(environment) ? ["otlp"] : []);
  }
  const names = setting.value.split(",").map((name) => name.trim());
  if (names.length === 1 && names[0] === "none") {
    return new Set();
  }
  return names.every((name) => name === "otlp" || name === "prometheus")
    ? new Set(names)
    : refuse(setting, "otlp, prometheus, both with a comma between them, or none");
}

function readOtlp(environment: Environment): OtlpMetricsConfig | undefined {
  const exporter = readExporterConfig(environment, "metrics");
  const whole = { min: 1, max: maxTimerMs, integer: true };
  const intervalMs = readNumber(readSetting(environment, "OTEL_METRIC_EXPORT_INTERVAL"), whole) ?? 60_000;
  const timeoutMs = readNumber(readSetting(environment, "OTEL_METRIC_EXPORT_TIMEOUT"), whole) ?? 30_000;
  const preference = readSetting(environment, "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE");
  const temporality = readChoice(
    preference && { ...preference, value: preference.value.toLowerCase() },
    temporalities,
    "cumulative",
  );
  return exporter && { exporter, intervalMs, timeoutMs: Math.min(timeoutMs, intervalMs), temporality };
}

function readPlace(environment: Environment, port: number | undefined): PrometheusPlace {
  const wanted = { min: 0, max: 65_535, integer: true };
  return {
    host: readSetting(environment, "OTEL_EXPORTER_PROMETHEUS_HOST")?.value,
    port: port ?? readNumber(readSetting(environment, "OTEL_EXPORTER_PROMETHEUS_PORT"), wanted) ?? 9464,
  };
}
