import { Code, ConnectError } from "@connectrpc/connect";
import { deadlineExceeded, saysWhere, toClientError } from "../errors/errors.js";

/** A limit on how long something may take. */
export interface TimeLimit {
  /** Aborted when the time is over, and whenever the signal that it was made with is. */
  readonly signal: AbortSignal;
  /** Whether the time itself is over. */
  readonly expired: boolean;
  /** Whole milliseconds that are left, at least 1; undefined without a limit. */
  leftMs(): number | undefined;
  /** Stops the clock; the signal goes on to follow the one that it was made with. */
  stop(): void;
}

/** @param timeoutMs undefined: no limit of its own. */
export function createTimeLimit(timeoutMs: number | undefined, signal: AbortSignal | undefined): TimeLimit {
  if (timeoutMs === undefined) {
    return { signal: signal ?? new AbortController().signal, expired: false, leftMs: () => undefined, stop() {} };
  }
  const endsAt = performance.now() + timeoutMs;
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(new ConnectError("the time ran out", Code.DeadlineExceeded)), timeoutMs);
  return {
    signal: signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]),
    get expired() {
      return over.signal.aborted;
    },
    leftMs: () => Math.max(1, Math.floor(endsAt - performance.now())),
    stop: () => clearTimeout(timer),
  };
}

/**
 * The error to tell for what was thrown: a timer's DEADLINE_EXCEEDED, which only knows that the time is over, gets the words about where it
 * went; the furthest server's, which has them, stays.
 *
 * @param signal of the call; its reason is why it was aborted.
 * @param where what it was doing, such as `waiting for a worker`.
 */
export function explainDeadline(error: unknown, signal: AbortSignal, where: string): ConnectError {
  const told = toClientError(error, signal);
  return told.code === Code.DeadlineExceeded && !saysWhere(told) ? deadlineExceeded(where, error) : told;
}
