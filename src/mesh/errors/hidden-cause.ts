import { ConnectError } from "@connectrpc/connect";

/**
 * What a failure hides from the client and only this process can log: a foreign error itself, or the foreign cause of a ConnectError.
 * Undefined where there is none. An abort adds nothing to the code. What another server answered is never a cause: that server has its own
 * log, and its message may hold anything.
 */
export function hiddenCauseOf(error: unknown): unknown {
  const cause = error instanceof ConnectError ? error.cause : error;
  const isAbort = cause instanceof Error && (cause.name === "AbortError" || cause.name === "TimeoutError");
  return cause instanceof ConnectError || isAbort ? undefined : cause;
}
