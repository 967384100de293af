import { Code } from "@connectrpc/connect";
import { type Span, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { leftCodeOf, serverCodeOf } from "../otelconnect/error-code.js";
import { recordException } from "../otelconnect/record-exception.js";
import { grpcStatusName, isErrorCode } from "../otelconnect/status-codes.js";

/** Attribute with gRPC's name of the code with which a call ended, as the contract of the trace has it. */
export const rpcStatusCode = "rpc.response.status_code";

/**
 * Writes on a span how the work in it failed. The rules for all spans stand here:
 * - status: a CLIENT span is an ERROR for any failure. A SERVER span is one only for the codes that are the server's own failure,
 *   and an INTERNAL span likewise, because it is a part of what the server does. The description is the code's name;
 * - `rpc.response.status_code`: on SERVER spans here, and only where the call failed; the makers of CLIENT spans write it, also `OK`;
 * - the exception is recorded where it happened; that a caller left is not an exception.
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

/**
 * Writes on a span that whoever asked for the work left before its end: CANCELLED, or what the signal's reason says, where that is
 * a ConnectError such as a deadline's.
 */
export function settleLeft(span: Span, kind: SpanKind, signal?: AbortSignal): void {
  settle(span, kind, leftCodeOf(signal));
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
