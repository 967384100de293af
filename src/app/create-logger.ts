import pino, { type Level, type Logger, stdTimeFunctions } from "pino";
import { activeTraceFields } from "../trace/trace-fields.js";

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
