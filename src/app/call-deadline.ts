import type { CallOptions, HandlerContext } from "@connectrpc/connect";
import { createTimeLimit } from "../mesh/balance/time-limit.js";

/** A server gives up this share of a call's time before the caller's own timer fires, and at least so many milliseconds. */
const share = 0.05;
const leastMs = 20;

/** How long a server may work on a call. */
export interface CallDeadline {
  /** Aborted when the time is over, and whenever the call's own signal is. */
  readonly signal: AbortSignal;
  /** Whole milliseconds that are left now: what the next hop is given. Undefined without a deadline. */
  readonly remainingMs: number | undefined;
}

/**
 * The time that a server takes for a call: max(20 ms, 5 %) less than the caller gave, so that the answer about where the time went
 * arrives before the caller's own timer fires. Every hop does the same, so the furthest gives up first and its words travel all the way.
 */
export function callDeadline(call: Pick<HandlerContext, "signal" | "timeoutMs">): CallDeadline {
  const givenMs = call.timeoutMs();
  if (givenMs === undefined) {
    return { signal: call.signal, remainingMs: undefined };
  }
  const remainingMs = Math.max(1, Math.floor(givenMs - Math.max(leastMs, givenMs * share)));
  const { signal, stop } = createTimeLimit(remainingMs, call.signal);
  // The call's signal is aborted at its end too, good or bad.
  call.signal.addEventListener("abort", stop, { once: true });
  return { signal, remainingMs };
}

/**
 * Options for the calls of other apps that a call leads to: they end when it ends, and their time is what a hop's reserve, max(20 ms,
 * 5 %), leaves of its time. `await pipeline.generate(request, onwardCall(call))`.
 */
export function onwardCall(call: Pick<HandlerContext, "signal" | "timeoutMs">): CallOptions {
  const { signal, remainingMs } = callDeadline(call);
  return { signal, ...(remainingMs !== undefined && { timeoutMs: remainingMs }) };
}
