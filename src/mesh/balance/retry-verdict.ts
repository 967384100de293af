import { Code, type ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { retryOnceHeader } from "../errors/errors.js";
import { retryDelayMsOf } from "../errors/retry-info.js";
import { connectionLost } from "../grpc/grpc-error.js";
import type { RetryReason } from "./call-attempt.js";

/** What a failed attempt means for its call and for the worker that failed. */
export type RetryVerdict =
  /** The call fails with this error. */
  | { readonly kind: "final" }
  /** The worker has no room for the call and did nothing: another may be asked at once, this one not again. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  /** The worker is lost or not ready: the call may be made again. */
  | { readonly kind: "failed"; readonly retryAfterMs: number };

/**
 * Judges an attempt that failed before its first event. Only UNAVAILABLE and RESOURCE_EXHAUSTED with a google.rpc.RetryInfo may be made
 * again: without one RESOURCE_EXHAUSTED means a message over the size limit, which is so everywhere. A negative or unreadable
 * `grpc-retry-pushback-ms` forbids another attempt. One above 0 with RESOURCE_EXHAUSTED asks for a pause, as for a caller over its rate:
 * another worker would be asked at once, against its will, so that is for the caller, and tells nothing of the worker's room.
 *
 * @see https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
 */
export function judgeFailure(error: ConnectError): RetryVerdict {
  const pushbackMs = pushbackMsOf(error);
  if (pushbackMs !== undefined && !(pushbackMs >= 0)) {
    return { kind: "final" };
  }
  const delayMs = retryDelayMsOf(error);
  if (error.code === Code.Unavailable) {
    return { kind: "failed", retryAfterMs: Math.max(pushbackMs ?? 0, delayMs ?? 0) };
  }
  if (error.code === Code.ResourceExhausted && delayMs !== undefined && !(pushbackMs !== undefined && pushbackMs > 0)) {
    return { kind: "full", retryAfterMs: delayMs };
  }
  return { kind: "final" };
}

/** Whether a worker was lost while it worked on this very call, so that the call may be the reason. */
export function isSuspicious(error: ConnectError): boolean {
  return error.metadata.has(retryOnceHeader);
}

/** Why a call that failed so is made again. */
export function retryReasonOf(error: ConnectError): RetryReason {
  if (error.code === Code.ResourceExhausted) {
    return "the worker is full";
  }
  if (isSuspicious(error)) {
    return "the worker was lost over this call";
  }
  return error.rawMessage === connectionLost ? connectionLost : "the worker is not available";
}

/** Milliseconds; NaN for what cannot be read. The field is gRPC's own, so it stands only in grpc-js's error, which is the cause. */
function pushbackMsOf({ cause }: ConnectError): number | undefined {
  if (!(cause instanceof Error && "metadata" in cause && cause.metadata instanceof grpc.Metadata)) {
    return undefined;
  }
  const [pushback] = cause.metadata.get("grpc-retry-pushback-ms");
  if (pushback === undefined) {
    return undefined;
  }
  return /^-?\d{1,10}$/.test(String(pushback)) ? Number(pushback) : Number.NaN;
}
