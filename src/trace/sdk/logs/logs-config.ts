import { type Environment, readChoice, readSetting } from "../environment-reader.js";
import { type BatchConfig, readBatchConfig } from "../otlp/batch-config.js";
import { type ExporterConfig, readExporterConfig } from "../otlp/exporter-config.js";
import { isSdkDisabled } from "../switches.js";

/** How the lines of a service's log are exported. */
export interface LogsConfig {
  readonly exporter: ExporterConfig;
  readonly batch: BatchConfig;
}

/**
 * Reads the variables for logs.
 *
 * @returns undefined where none are exported: unless `OTEL_LOGS_EXPORTER` is `otlp` and there is an endpoint.
 * @throws TelemetryConfigError when one holds nonsense, unless the SDK is off.
 */
export function readLogsConfig(environment: Environment): LogsConfig | undefined {
  if (isSdkDisabled(environment)) {
    return undefined;
  }
  const wanted = readChoice(readSetting(environment, "OTEL_LOGS_EXPORTER"), ["otlp", "none"], "none");
  const exporter = wanted === "otlp" ? readExporterConfig(environment, "logs") : undefined;
  return (
    exporter && {
      exporter,
      batch: readBatchConfig(environment, "BLRP"),
    }
  );
}
