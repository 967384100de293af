import type { Attributes, Span } from "@opentelemetry/api";
import type { CallAttempt } from "../mesh/balance/call-attempt.js";
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
    [rpcStatusCode]: code === undefined ? "OK" : grpcStatusName(code),
    ...(retryReason !== undefined && { "attempt.retry_reason": retryReason }),
  };
  span.addEvent("attempt", attributes);
}
