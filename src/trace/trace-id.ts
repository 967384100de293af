import { type Context, isValidTraceId, trace } from "@opentelemetry/api";

/**
 * Trace id of the span in a context: 32 lower-case hexadecimal digits, also when the trace is not sampled. Empty when there is no
 * trace, as with tracing switched off.
 */
export function traceIdOf(scope: Context): string {
  const traceId = trace.getSpanContext(scope)?.traceId ?? "";
  return isValidTraceId(traceId) ? traceId : "";
}
