import pino, { type Level, type Logger, stdTimeFunctions } from "pino";
import { activeTraceFields } from "../trace/span-scope.js";
import { createTelemetry, type Telemetry, type TelemetryOptions } from "../trace/telemetry/telemetry.js";

/** Options of {@link observe}. */
export interface ObserveOptions extends Omit<TelemetryOptions, "log"> {
  /** Minimum log level. */
  readonly level: Level | "silent";
  /** Writes each log line. */
  readonly write: (line: string) => void;
}

/** Logger and telemetry of one service. */
export interface Observed {
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

/**
 * Create the logger and the telemetry of one service.
 *
 * Export failures are logged. Log lines are exported if `OTEL_LOGS_EXPORTER` is `otlp`.
 *
 * @throws TelemetryConfigError if an environment variable has an invalid value.
 */
export function observe({ level, write, ...options }: ObserveOptions): Observed {
  let exportLog = (_line: string) => {};
  const logger = createLogger({
    service: options.serviceName,
    level,
    write(line) {
      write(line);
      exportLog(line);
    },
  });
  const telemetry = createTelemetry({ ...options, log: logger });
  exportLog = telemetry.exportLog;
  return { logger, telemetry };
}

/** Logs that a watched file is invalid after a change. The previous content stays in use. */
export function logRejectedFile(logger: Pick<Logger, "error">): (error: unknown) => void {
  return (error) =>
    logger.error(
      { reason: error instanceof Error ? error.message : error },
      "a changed file is invalid; its previous content stays in use",
    );
}

/** Options of {@link createLogger}. */
export interface LoggerOptions {
  /** Value of the field `service` of each line. */
  readonly service: string;
  /** Minimum log level. */
  readonly level: Level | "silent";
  /** Writes each line: a JSON object and a newline. */
  readonly write: (line: string) => void;
}

/**
 * Create a logger of JSON lines.
 *
 * Each line is written synchronously, so that none is lost when the process exits. Fields: `level` as a name, `time` in ISO 8601 UTC,
 * `service`, `msg`, and `trace_id`, `span_id` and `trace_flags` if a span is active.
 */
export function createLogger({ service, level, write }: LoggerOptions): Logger {
  return pino(
    {
      level,
      base: { service },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      mixin: activeTraceFields,
    },
    { write },
  );
}
