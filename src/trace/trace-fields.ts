import { type Context, context, isSpanContextValid, isValidTraceId, TraceFlags, trace } from "@opentelemetry/api";

/**
 * What ties a line of a log to a span, under the names that OpenTelemetry has for logs in formats of others; empty where there is no
 * span.
 *
 * @see https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
 */
export interface TraceFields {
  /** 32 lower-case hexadecimal digits. */
  readonly trace_id?: string;
  /** 16 lower-case hexadecimal digits. */
  readonly span_id?: string;
  /** Two hexadecimal digits; `01` where the trace is sampled. */
  readonly trace_flags?: string;
}

/** The fields of the span in a context. */
export function traceFieldsOf(scope: Context): TraceFields {
  const span = trace.getSpanContext(scope);
  if (span === undefined || !isSpanContextValid(span)) {
    return {};
  }
  return {
    trace_id: span.traceId,
    span_id: span.spanId,
    trace_flags: span.traceFlags.toString(16).padStart(2, "0"),
  };
}

/**
 * The fields of the active span. A sampled span that has ended gives none: timers and connections that began during a request keep its
 * context as long as they live, and what they tell later is not about that request.
 */
export function activeTraceFields(): TraceFields {
  const active = context.active();
  const span = trace.getSpan(active);
  const isSampled = ((span?.spanContext().traceFlags ?? 0) & TraceFlags.SAMPLED) !== 0;
  return isSampled && span?.isRecording() === false ? {} : traceFieldsOf(active);
}

/**
 * Trace id of the span in a context: 32 lower-case hexadecimal digits, also when the trace is not sampled. Empty when there is no
 * trace, as with tracing switched off.
 */
export function traceIdOf(scope: Context): string {
  const traceId = trace.getSpanContext(scope)?.traceId ?? "";
  return isValidTraceId(traceId) ? traceId : "";
}
