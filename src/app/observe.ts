import pino, { type Level, type Logger, stdTimeFunctions } from "pino";
import { activeTraceFields } from "../trace/span-scope.js";
import { createTelemetry, type Telemetry, type TelemetryOptions } from "../trace/telemetry/telemetry.js";

/** Options of {@link observe}. */
export interface ObserveOptions extends Omit<TelemetryOptions, "log"> {
  /** Least level of the log. */
  readonly level: Level | "silent";
  /** Takes each line of the log. */
  readonly write: (line: string) => void;
}

/** What a service tells of itself. */
export interface Observed {
  readonly logger: Logger;
  readonly telemetry: Telemetry;
}

/**
 * The log and the telemetry of one service. Troubles with exports go to the log, and the lines of the log are exported where
 * `OTEL_LOGS_EXPORTER` wants that.
 *
 * @param options of both.
 * @throws TelemetryConfigError when a variable holds nonsense.
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

/** Says in the log that a file which is watched has changed and is wrong, so that what was read before stays in use. */
export function logRejectedFile(logger: Pick<Logger, "error">): (error: unknown) => void {
  return (error) =>
    logger.error(
      { reason: error instanceof Error ? error.message : error },
      "a changed file is wrong, the old one stays",
    );
}

/** Options of {@link createLogger}. */
export interface LoggerOptions {
  /** Name of the service, which is the field `service` of each line. */
  readonly service: string;
  /** Least level that is written. */
  readonly level: Level | "silent";
  /** Takes each line, a JSON object with a newline behind it. */
  readonly write: (line: string) => void;
}

/**
 * A logger of JSON lines, each written at once, so that the last words of a process are not lost. A line has `level` as a word, `time` as
 * ISO 8601 in UTC, `service` and `msg`, and `trace_id`, `span_id` and `trace_flags` where it is written while a span is the active one.
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
