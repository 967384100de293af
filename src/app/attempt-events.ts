import type { Attributes, Counter, Span } from "@opentelemetry/api";
import type { CallAttempt } from "../mesh/balance/attempt.js";
import { grpcStatusName } from "../otelconnect/status-codes.js";
import { rpcStatusCode } from "../trace/settle-span.js";

/**
 * Writes an attempt of a call on its span, at the attempt's end: an event `attempt` with `attempt.number`, `server.address`, `server.port`,
 * `rpc.response.status_code`, and `attempt.retry_reason` where another attempt followed.
 */
export function recordAttempt(span: Span, { number, address, port, code, retryReason }: CallAttempt): void {
  const attributes: Attributes = {
    "attempt.number": number,
    "server.address": address,
    ...(port !== undefined && { "server.port": port }),
    [rpcStatusCode]: statusOf(code),
    ...(retryReason !== undefined && { "attempt.retry_reason": retryReason }),
  };
  span.addEvent("attempt", attributes);
}

/** Counts an attempt by app, by code and by what made another one follow. */
export function countAttempt(attempts: Counter, appId: string, { code, retryReason }: CallAttempt): void {
  attempts.add(1, {
    "app.id": appId,
    "rpc.status_code": statusOf(code),
    ...(retryReason !== undefined && { "attempt.retry_reason": retryReason }),
  });
}

function statusOf(code: CallAttempt["code"]): string {
  return code === undefined ? "OK" : grpcStatusName(code);
}
