import { ConnectError } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";

/**
 * What a failure hides from the client and only this process can tell the log: a foreign error itself, or the foreign cause of a
 * ConnectError. Undefined where there is none: a server that was called has told its own log, and its words may hold anything; that a
 * call was aborted says no more than its code does.
 */
export function hiddenCauseOf(error: unknown): unknown {
  const cause = error instanceof ConnectError ? error.cause : error;
  const isAnswer = cause instanceof Error && "metadata" in cause && cause.metadata instanceof grpc.Metadata;
  const isAbort = cause instanceof Error && (cause.name === "AbortError" || cause.name === "TimeoutError");
  return cause instanceof ConnectError || isAnswer || isAbort ? undefined : cause;
}
