import { type Context, isSpanContextValid, ROOT_CONTEXT, trace } from "@opentelemetry/api";
import { isSdkDisabled, type VariableReader } from "./environment.js";
import { type BatchSettings, type OtlpSettings, readBatchSettings, readOtlpSettings } from "./otlp-settings.js";
import { loadSdk, type logs } from "./sdk.js";
import { createSignalQueue, type SignalContext, type SignalEnd } from "./signal-queue.js";

/** Export settings of a service's log. */
export interface LogSettings {
  readonly exporter: OtlpSettings;
  readonly batch: BatchSettings;
}

/**
 * Reads the environment variables of log export.
 *
 * @returns undefined unless `OTEL_LOGS_EXPORTER` is `otlp` and an endpoint is set.
 * @throws TelemetryConfigError if the endpoint, a file or a header is invalid, unless the SDK is disabled.
 */
export function readLogSettings(reader: VariableReader): LogSettings | undefined {
  const isWanted = !isSdkDisabled(reader) && reader.choice(["otlp", "none"], "OTEL_LOGS_EXPORTER") === "otlp";
  const exporter = isWanted ? readOtlpSettings(reader, "logs") : undefined;
  return exporter && { exporter, batch: readBatchSettings(reader, "BLRP") };
}

/** Exports the log of one service. */
export interface LogExport extends SignalEnd {
  /** Exports a log line; see {@link logRecordOfLine}. Ignores any other text. */
  write(line: string): void;
}

/** Limits of the retry queue. Lower than for spans and not configurable, because the lines are on stderr too. */
const retryLimits = { maxItems: 8192, maxBytes: 16 * 1024 * 1024 };

/**
 * Creates the log export of one service. Sets no globals.
 *
 * @param settings undefined disables the export.
 */
export function createLogExport(settings: LogSettings | undefined, signal: SignalContext): LogExport {
  if (settings === undefined) {
    return { write() {}, shutdown: () => Promise.resolve(), close() {} };
  }
  const { exporter, batch } = settings;
  const { logs } = loadSdk();
  const queue = createSignalQueue("logs", exporter, batch.exportTimeoutMillis, retryLimits, signal);
  const processor = new logs.BatchLogRecordProcessor({ exporter: queue, ...batch });
  const provider = new logs.LoggerProvider({ resource: signal.resource(), processors: [processor] });
  const logger = provider.getLogger(signal.scopeName);
  return {
    write(line) {
      const record = logRecordOfLine(line);
      if (record !== undefined) {
        logger.emit(record);
      }
    },
    shutdown: () => provider.shutdown(),
    close: queue.close,
  };
}

/** Log record of the SDK. */
export type LogRecord = Parameters<ReturnType<logs.LoggerProvider["getLogger"]>["emit"]>[0];

type Attributes = NonNullable<LogRecord["attributes"]>;

/** Lowest OpenTelemetry severity number of each level. */
const severityNumbers: Readonly<Record<string, number>> = {
  trace: 1,
  debug: 5,
  info: 9,
  warn: 13,
  error: 17,
  fatal: 21,
};

/**
 * Converts a JSON log line to a log record.
 *
 * - `level` becomes the severity, `time` the timestamp, `msg` the body.
 * - `trace_id`, `span_id` and `trace_flags` become the span context.
 * - `err` becomes `exception.type`, `exception.message` and `exception.stacktrace`.
 * - `service` is dropped, because the resource has it. All other fields become attributes.
 *
 * @returns undefined if the line is not a JSON object.
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

/** All JSON values are valid attributes of a log record. */
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
