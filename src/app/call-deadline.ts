import { type CallOptions, Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { isServerTime, serverTimeMs } from "../mesh/serve/server-deadline.js";
import { maxTimerMs } from "../timer-limit.js";

/** Time that a server has for a call. */
export interface CallDeadline {
  /** Aborted at the deadline, and when the call's own signal is aborted. */
  readonly signal: AbortSignal;
  /** Time left for the next hop, in integer milliseconds. Undefined without a deadline. */
  readonly remainingMs: number | undefined;
  /**
   * Options for outgoing calls made on behalf of this call. They carry the deadline as `timeoutMs` and not in the signal, so that an
   * outgoing call reports its own DEADLINE_EXCEEDED.
   */
  readonly onward: CallOptions;
}

/** Signal, timeout and context values of a call. */
export type TimedCall = Pick<HandlerContext, "signal" | "timeoutMs" | "values">;

/** Computes a server's deadline for a call; see {@link serverTimeMs}. Reduces the caller's time here if the call is in-process. */
export function callDeadline(call: TimedCall): CallDeadline {
  const givenMs = call.timeoutMs();
  if (givenMs === undefined) {
    return { signal: call.signal, remainingMs: undefined, onward: { signal: call.signal } };
  }
  const isCut = call.values.get(isServerTime);
  const remainingMs = isCut ? Math.max(1, Math.floor(givenMs)) : serverTimeMs(givenMs);
  return {
    signal: isCut ? call.signal : signalUntil(call.signal, remainingMs),
    remainingMs,
    onward: { signal: call.signal, timeoutMs: remainingMs },
  };
}

/** Create a signal that is aborted with `outer` and after the time limit. */
function signalUntil(outer: AbortSignal, timeoutMs: number): AbortSignal {
  const over = new AbortController();
  if (outer.aborted) {
    over.abort(outer.reason);
    return over.signal;
  }
  const timer = setTimeout(
    () => over.abort(new ConnectError("deadline exceeded", Code.DeadlineExceeded)),
    Math.min(timeoutMs, maxTimerMs),
  );
  // An in-process call always aborts its signal when it ends.
  const onEnd = () => {
    clearTimeout(timer);
    over.abort(outer.reason);
  };
  outer.addEventListener("abort", onEnd, { once: true });
  return over.signal;
}

/**
 * Options for outgoing calls made on behalf of an incoming call.
 *
 * An outgoing call ends with the incoming one. Its timeout is the time left minus a reserve of max(20 ms, 5 %).
 *
 * @example
 * await pipeline.generate(request, onwardCall(call));
 */
export function onwardCall(call: TimedCall): CallOptions {
  return callDeadline(call).onward;
}
