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

/** What a span starts with. */
export interface SpanScopeOptions extends SpanOptions {
  /** Context with the parent span. It is always said, so that no span gets a parent by accident. */
  readonly parent: Context;
}

/** Work inside a span: gets the span, and the context in which it is the current one. */
export type InSpan<T> = (span: Span, scope: Context) => T;

/**
 * Runs `work` in a new span and ends the span exactly once, when the work is done or has failed. While it runs, the span is the
 * active one. A failure is written on the span by the rules of `settleFailure` and thrown on.
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

/** Attribute with gRPC's name of the code with which a call ended, as the contract of the trace has it. */
export const rpcStatusCode = "rpc.response.status_code";

/**
 * Writes on a span how the work in it failed. The rules for all spans stand here:
 * - status: a CLIENT span is an ERROR for any failure but a cancel by its own caller. A SERVER span is one only for the codes that are the server's own failure,
 *   and an INTERNAL span likewise, because it is a part of what the server does. The description is the code's name;
 * - `rpc.response.status_code`: on SERVER spans here, and only where the call failed; the makers of CLIENT spans write it, also `OK`;
 * - the exception is recorded where it happened; a cancel is not an exception.
 *
 * @param signal signal of the call, which knows why it was aborted.
 */
export function settleFailure(span: Span, kind: SpanKind, error: unknown, signal?: AbortSignal): void {
  const code = serverCodeOf(error, signal);
  settle(span, kind, code);
  if (code !== Code.Canceled) {
    recordException(span, error);
  }
}

/** Writes on a span the code with which its work failed, by the same rules. */
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
