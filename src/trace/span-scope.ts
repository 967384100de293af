import { Code } from "@connectrpc/connect";
import {
  type Context,
  context,
  isSpanContextValid,
  isValidTraceId,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
  TraceFlags,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { grpcStatusName, isErrorCode, recordException, serverCodeOf } from "../otelconnect/errors.js";

/** Start options of a span. */
export interface SpanScopeOptions extends SpanOptions {
  /** Context with the parent span. Required, so that no span gets a parent by accident. */
  readonly parent: Context;
}

/** Work inside a span. Receives the span and the context in which it is active. */
export type InSpan<T> = (span: Span, scope: Context) => T;

/**
 * Runs `work` in a new active span, and ends the span once.
 *
 * Records an error on the span by the rules of `settleFailure`, and rethrows it.
 */
export async function withSpan<T>(
  tracer: Tracer,
  name: string,
  options: SpanScopeOptions,
  work: InSpan<Promise<T> | T>,
): Promise<T> {
  const { span, scope, kind } = startSpan(tracer, name, options);
  try {
    return await context.with(scope, () => work(span, scope));
  } catch (error) {
    settleFailure(span, kind, error);
    throw error;
  } finally {
    span.end();
  }
}

function startSpan(tracer: Tracer, name: string, { parent, ...options }: SpanScopeOptions) {
  const span = tracer.startSpan(name, options, parent);
  return { span, scope: trace.setSpan(parent, span), kind: options.kind ?? SpanKind.INTERNAL };
}

/** Attribute with the gRPC name of a call's status code, as the trace contract defines it. */
export const rpcStatusCode = "rpc.response.status_code";

/**
 * Records a failure on a span. All spans follow these rules:
 *
 * - Status: a CLIENT span is an ERROR for any failure except cancellation by its own caller. A SERVER or INTERNAL span is an ERROR only
 *   for codes that mean a server error. The description is the name of the code.
 * - `rpc.response.status_code`: set here on SERVER spans, only on failure. The client interceptor sets it on CLIENT spans, also `OK`.
 * - Exception: recorded on the innermost span. A cancellation is not an exception.
 *
 * @param signal signal of the call; its reason gives the code of an aborted call.
 */
export function settleFailure(span: Span, kind: SpanKind, error: unknown, signal?: AbortSignal): void {
  const code = serverCodeOf(error, signal);
  settle(span, kind, code);
  if (code !== Code.Canceled) {
    recordException(span, error);
  }
}

/** Records a failure's code on a span, by the rules of {@link settleFailure}. */
export function settle(span: Span, kind: SpanKind, code: Code): void {
  const name = grpcStatusName(code);
  if (kind === SpanKind.SERVER) {
    span.setAttribute(rpcStatusCode, name);
  }
  if (isErrorCode(kind === SpanKind.CLIENT ? "client" : "server", code)) {
    span.setStatus({ code: SpanStatusCode.ERROR, message: name });
  }
}

/**
 * Log fields that identify a span; empty if there is none.
 *
 * The names follow OpenTelemetry's convention for non-OTLP log formats.
 *
 * @see https://opentelemetry.io/docs/specs/otel/compatibility/logging_trace_context/
 */
export interface TraceFields {
  /** 32 lower-case hexadecimal digits. */
  readonly trace_id?: string;
  /** 16 lower-case hexadecimal digits. */
  readonly span_id?: string;
  /** Two hexadecimal digits; `01` if the trace is sampled. */
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
 * The fields of the active span; empty if it is sampled and has ended.
 *
 * Timers and connections created during a request keep its context. Their later log lines do not belong to that request.
 */
export function activeTraceFields(): TraceFields {
  const active = context.active();
  const span = trace.getSpan(active);
  const isSampled = ((span?.spanContext().traceFlags ?? 0) & TraceFlags.SAMPLED) !== 0;
  return isSampled && span?.isRecording() === false ? {} : traceFieldsOf(active);
}

/**
 * Trace id of the span in a context: 32 lower-case hexadecimal digits, also if the trace is not sampled.
 *
 * Empty if there is no trace, for example if tracing is off.
 */
export function traceIdOf(scope: Context): string {
  const traceId = trace.getSpanContext(scope)?.traceId ?? "";
  return isValidTraceId(traceId) ? traceId : "";
}
