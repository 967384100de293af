import { type Context, isSpanContextValid, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import type { logs } from "@opentelemetry/sdk-node";

/** What a logger of the SDK takes. */
export type LogRecord = Parameters<ReturnType<logs.LoggerProvider["getLogger"]>["emit"]>[0];

type Attributes = NonNullable<LogRecord["attributes"]>;

/** Least number of each level's range, as OpenTelemetry maps them. */
const severityNumbers: Readonly<Record<string, number>> = {
  trace: 1,
  debug: 5,
  info: 9,
  warn: 13,
  error: 17,
  fatal: 21,
};

/**
 * A line of a service's log as a record: `level` is its severity, `time` its time, `msg` its body, and the span is that of `trace_id`,
 * `span_id` and `trace_flags`. An error under `err` becomes `exception.type`, `exception.message` and `exception.stacktrace`; `service` is
 * the resource's affair. All else are attributes.
 *
 * @returns undefined for what is not a line of such a log.
 * @see https://opentelemetry.io/docs/specs/otel/logs/data-model/#severity-fields
 */
export function logRecordOfLine(line: string): LogRecord | undefined {
  const fields = parsed(line);
  if (fields === undefined) {
    return undefined;
  }
  const { level, time, msg, service: _, trace_id, span_id, trace_flags, err, ...rest } = fields;
  const severityText = typeof level === "string" ? level : "";
  const timestamp = typeof time === "string" ? Date.parse(time) : Number.NaN;
  return {
    severityText,
    severityNumber: severityNumbers[severityText] ?? 0,
    ...(!Number.isNaN(timestamp) && { timestamp }),
    body: typeof msg === "string" ? msg : "",
    attributes: { ...rest, ...exceptionAttributes(err) },
    context: contextOf(trace_id, span_id, trace_flags),
  };
}

function parsed(line: string): Attributes | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What comes out of JSON holds nothing that an attribute of a record cannot. */
function isObject(value: unknown): value is Attributes {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function exceptionAttributes(err: unknown): Attributes {
  if (err === undefined) {
    return {};
  }
  if (!isObject(err)) {
    return { "exception.message": String(err) };
  }
  const { type, message, stack } = err;
  return { "exception.type": type, "exception.message": message, "exception.stacktrace": stack };
}

function contextOf(traceId: unknown, spanId: unknown, flags: unknown): Context {
  if (typeof traceId !== "string" || typeof spanId !== "string") {
    return ROOT_CONTEXT;
  }
  const span = { traceId, spanId, traceFlags: Number.parseInt(String(flags), 16) || 0 };
  return isSpanContextValid(span) ? trace.setSpanContext(ROOT_CONTEXT, span) : ROOT_CONTEXT;
}
