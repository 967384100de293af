import { Code } from "@connectrpc/connect";
import {
  type Context,
  context,
  type Span,
  SpanKind,
  type SpanOptions,
  SpanStatusCode,
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
