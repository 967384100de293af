import { Code, ConnectError } from "@connectrpc/connect";
import { maxTimerMs } from "../../timer-limit.js";
import { deadlineExceeded } from "../errors/errors.js";
import { CallFailure } from "../grpc/grpc-status.js";

/** Caller's signal and deadline of one call, combined. */
export interface CallLimit {
  /** Aborted with the error of the call. */
  readonly signal: AbortSignal;
  /** Current phase, for the message at the deadline: `waiting for a worker`. */
  where: string;
  /** Set when the deadline has passed or the caller has aborted. */
  readonly over: CallFailure | undefined;
  /**
   * Replaces the listener that is called once at the end; each phase of the call sets its own. Calls it at once if `over` is set already,
   * because an abort may come between two phases.
   */
  whenOver(listener: (failure: CallFailure) => void): void;
  /** Remaining time in whole milliseconds, at least 1; undefined without a deadline. */
  leftMs(): number | undefined;
  /** Ends the call if its deadline has passed: a server's timer may fire before ours. */
  checkDeadline(): void;
  /** Clears the timer and removes the abort listener. */
  stop(): void;
}

/** Largest gap, in milliseconds, at which the caller's signal and our timer count as the same deadline. */
const sameMs = 50;

/**
 * @param caller the caller's signal.
 * @param timeoutMs undefined, 0 or less: no deadline, as in Connect.
 */
export function createCallLimit(caller: AbortSignal | undefined, timeoutMs: number | undefined): CallLimit {
  const limitMs = timeoutMs === undefined || timeoutMs <= 0 ? undefined : Math.min(timeoutMs, maxTimerMs);
  const endsAt = limitMs === undefined ? undefined : performance.now() + limitMs;
  const controller = new AbortController();
  let over: CallFailure | undefined;
  const isNear = (ms: number) => endsAt !== undefined && performance.now() >= endsAt - ms;
  let onOver = (_failure: CallFailure): void => {};
  const end = (error: ConnectError): void => {
    if (over === undefined) {
      over = new CallFailure(error, "local");
      limit.stop();
      onOver(over);
      controller.abort(error);
    }
  };
  const onDeadline = () => end(deadlineExceeded(limit.where));
  const onAbort = () => {
    const error = ConnectError.from(caller?.reason, Code.Canceled);
    // A deadline's signal carries no phase.
    error.code === Code.DeadlineExceeded && isNear(sameMs) ? onDeadline() : end(error);
  };
  const timer = limitMs === undefined ? undefined : setTimeout(onDeadline, limitMs);
  const limit: CallLimit = {
    signal: controller.signal,
    where: "waiting for a worker",
    get over() {
      return over;
    },
    whenOver(listener) {
      onOver = listener;
      if (over !== undefined) {
        listener(over);
      }
    },
    leftMs: () => (endsAt === undefined ? undefined : Math.max(1, Math.floor(endsAt - performance.now()))),
    checkDeadline() {
      if (isNear(1)) {
        onDeadline();
      }
    },
    stop() {
      clearTimeout(timer);
      caller?.removeEventListener("abort", onAbort);
    },
  };
  if (caller?.aborted) {
    onAbort();
  } else {
    caller?.addEventListener("abort", onAbort);
  }
  return limit;
}
