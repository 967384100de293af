import { Code, ConnectError } from "@connectrpc/connect";
import { deadlineExceeded } from "../errors/errors.js";
import { CallFailure } from "../grpc/grpc-status.js";

/** What ends a call from outside: its caller's signal and its deadline. */
export interface CallLimit {
  /** Aborted with the error that the call is to end with. */
  readonly signal: AbortSignal;
  /** Where the call's time goes now, for the error at the deadline: `waiting for a worker`. */
  where: string;
  /** Set once the call is to end. */
  readonly over: CallFailure | undefined;
  /**
   * Replaces what is called once, when the call is to end; each phase of the call sets its own. Called at once where the call is to end
   * already: an abort may come between two phases.
   */
  whenOver(listener: (failure: CallFailure) => void): void;
  /** Whole milliseconds that are left, at least 1; undefined without a deadline. */
  leftMs(): number | undefined;
  /** Ends the call for its deadline if that has passed, where a server noticed it before our timer. */
  checkDeadline(): void;
  /** Stops the timer and the listening. */
  stop(): void;
}

/** Node's timers take no more, in milliseconds; a longer one would fire at once. */
const longestTimeoutMs = 2_147_483_647;
/** A caller's signal and our own timer stand for one deadline where they end so close to each other, in milliseconds. */
const sameMs = 50;

/**
 * @param caller the caller's signal.
 * @param timeoutMs undefined, or 0 and less as in Connect: no deadline.
 */
export function createCallLimit(caller: AbortSignal | undefined, timeoutMs: number | undefined): CallLimit {
  const limitMs = timeoutMs === undefined || timeoutMs <= 0 ? undefined : Math.min(timeoutMs, longestTimeoutMs);
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
    // A deadline's signal does not know where the time went.
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
