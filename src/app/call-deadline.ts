import type { CallOptions, HandlerContext } from "@connectrpc/connect";
import { createTimeLimit } from "../mesh/balance/time-limit.js";
import { isServerTime, serverTimeMs } from "../mesh/serve/server-deadline.js";

/** How long a server may work on a call. */
export interface CallDeadline {
  /** Aborted when the time is over, and whenever the call's own signal is. */
  readonly signal: AbortSignal;
  /** Whole milliseconds that are left now: what the next hop is given. Undefined without a deadline. */
  readonly remainingMs: number | undefined;
}

/** What is known of the time of a call. */
export type TimedCall = Pick<HandlerContext, "signal" | "timeoutMs" | "values">;

/** The time that a server takes for a call; see {@link serverTimeMs}. A call that came over no wire has the caller's time, which is cut here. */
export function callDeadline(call: TimedCall): CallDeadline {
  const givenMs = call.timeoutMs();
  if (givenMs === undefined) {
    return { signal: call.signal, remainingMs: undefined };
  }
  if (call.values.get(isServerTime)) {
    return { signal: call.signal, remainingMs: Math.max(1, Math.floor(givenMs)) };
  }
  const remainingMs = serverTimeMs(givenMs);
  const { signal, stop } = createTimeLimit(remainingMs, call.signal);
  // The call's signal is aborted at its end too, good or bad.
  call.signal.addEventListener("abort", stop, { once: true });
  return { signal, remainingMs };
}

/**
 * Options for the calls of other apps that a call leads to: they end when it ends, and their time is what a hop's reserve, max(20 ms,
 * 5 %), leaves of its time. `await pipeline.generate(request, onwardCall(call))`.
 */
export function onwardCall(call: TimedCall): CallOptions {
  const { signal, remainingMs } = callDeadline(call);
  return { signal, ...(remainingMs !== undefined && { timeoutMs: remainingMs }) };
}
