import { Code, ConnectError } from "@connectrpc/connect";

/**
 * The code with which a server's call ends when its handler throws this, so that a span says what the caller is told: a
 * ConnectError's own; for an AbortError that of the signal's reason, where that is a ConnectError (deadline, client left, shutdown),
 * else CANCELLED; DEADLINE_EXCEEDED for a TimeoutError; INTERNAL for anything else.
 *
 * @param signal signal of the call, which knows why it was aborted.
 */
export function serverCodeOf(error: unknown, signal?: AbortSignal): Code {
  if (error instanceof ConnectError) {
    return error.code;
  }
  if (!(error instanceof Error)) {
    return Code.Internal;
  }
  if (error.name === "TimeoutError") {
    return Code.DeadlineExceeded;
  }
  if (error.name !== "AbortError") {
    return Code.Internal;
  }
  return leftCodeOf(signal);
}

/** The code of a server's call whose caller left: CANCELLED, or what the signal's reason says, where that is a ConnectError. */
export function leftCodeOf(signal?: AbortSignal): Code {
  return signal?.aborted && signal.reason instanceof ConnectError ? signal.reason.code : Code.Canceled;
}

/** The code that a client is told when its call is rejected with this: Connect's own rule, in which an aborted call says why it was. */
export function clientCodeOf(error: unknown, signal: AbortSignal): Code {
  return signal.aborted ? abortCodeOf(signal) : ConnectError.from(error).code;
}

/** The code that a client is told when the signal of its call is aborted. */
export function abortCodeOf(signal: AbortSignal): Code {
  return ConnectError.from(signal.reason, Code.Canceled).code;
}
