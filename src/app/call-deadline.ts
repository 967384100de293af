import { type CallOptions, Code, ConnectError, type HandlerContext } from "@connectrpc/connect";
import { isServerTime, serverTimeMs } from "../mesh/serve/server-deadline.js";

/** Longest delay of Node's timers, in milliseconds. A longer one fires at once. */
const longestTimeoutMs = 2_147_483_647;

/** How long a server may work on a call. */
export interface CallDeadline {
  /** Aborted when the time is over, and whenever the call's own signal is. */
  readonly signal: AbortSignal;
  /** Whole milliseconds that are left now: what the next hop is given. Undefined without a deadline. */
  readonly remainingMs: number | undefined;
  /**
   * Options for the calls of other apps that the call leads to. They have the deadline as a time limit and not as a signal, so that they
   * themselves report where the time went.
   */
  readonly onward: CallOptions;
}

/** What is known of the time of a call. */
export type TimedCall = Pick<HandlerContext, "signal" | "timeoutMs" | "values">;

/** The time that a server takes for a call; see {@link serverTimeMs}. A call that came over no wire has the caller's time, which is cut here. */
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
    Math.min(timeoutMs, longestTimeoutMs),
  );
  // The signal of an in-process call is aborted at its end in every case.
  const onEnd = () => {
    clearTimeout(timer);
    over.abort(outer.reason);
  };
  outer.addEventListener("abort", onEnd, { once: true });
  return over.signal;
}

/**
 * Options for the calls of other apps that a call leads to: they end when it ends, and their time is what a hop's reserve, max(20 ms,
 * 5 %), leaves of its time. `await pipeline.generate(request, onwardCall(call))`.
 */
export function onwardCall(call: TimedCall): CallOptions {
  return callDeadline(call).onward;
}
