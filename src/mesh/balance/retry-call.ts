import { setTimeout as delay } from "node:timers/promises";
import { Code, type ConnectError } from "@connectrpc/connect";
import { unavailable } from "../errors/errors.js";
import type { Policies } from "../grpc/policies.js";
import type { BalancedWorker } from "./balanced-worker.js";
import type { Balancer, Refusal } from "./balancer.js";
import type { LoadCall } from "./balancing-load.js";
import type { CallAttempt, RetryReason } from "./call-attempt.js";
import type { RetryBudget } from "./retry-budget.js";
import { isSuspicious, judgeFailure, retryReasonOf } from "./retry-verdict.js";
import { createTimeLimit, explainDeadline, type TimeLimit } from "./time-limit.js";

/** Options of {@link retryCall}. */
export interface RetryCallOptions<T> {
  readonly balancer: Balancer;
  readonly budget: RetryBudget;
  readonly policy: Policies["retry"];
  /** Full name of the service that is called. */
  readonly service: string;
  /** False for a call whose requests can be read once only: it has one attempt. */
  readonly repeatable: boolean;
  /** The call's own; its reason is what a call that is aborted fails with. */
  readonly signal: AbortSignal | undefined;
  /** Time for the call with all its attempts, in milliseconds; undefined: no limit. */
  readonly timeoutMs: number | undefined;
  /** Told each attempt at its end. */
  readonly onAttempt: (attempt: CallAttempt) => void;
  /** Makes the call on one worker and resolves with its first event. From then on there are no retries. */
  readonly make: (attempt: RunningAttempt) => Promise<T>;
}

/** An attempt that runs. */
export interface RunningAttempt {
  readonly worker: BalancedWorker;
  readonly load: LoadCall;
  readonly signal: AbortSignal;
  /** What is left of the call's time, in milliseconds. */
  readonly timeoutMs: number | undefined;
  /** To be told how the attempt ended once it had its first event; undefined means well. Only the first word counts. */
  end(error: ConnectError | undefined): void;
}

/** What one call has learned of the workers. */
interface History {
  readonly tried: Set<BalancedWorker>;
  readonly full: Map<BalancedWorker, Refusal>;
  /** Attempts of all kinds. */
  attempts: number;
  /** Attempts that failed because the worker was lost or not ready. */
  failures: number;
  /** Those among them that the call itself may have been the reason of. */
  suspicions: number;
  lastError?: ConnectError;
}

/**
 * Makes one call, on one worker after the other where it has to be:
 * - a worker without room sends it on to another at once. Such refusals cost neither attempts nor budget, because each worker is asked once;
 * - a worker that is lost or not ready costs one of `maxAttempts` and a token of the budget. A worker that was not asked yet is asked at
 *   once, one that the call has failed on after a growing pause;
 * - a worker that was lost while it worked on this very call says so, and the second one that does ends it: the call may be the reason;
 * - every other failure, and every one after the first event, is the call's own.
 *
 * Nothing is retried past the deadline or the end of the signal.
 *
 * @throws ConnectError the last attempt's, or that of {@link Balancer.pick}.
 */
export async function retryCall<T>(options: RetryCallOptions<T>): Promise<T> {
  const limit = createTimeLimit(options.timeoutMs, options.signal);
  const history: History = { tried: new Set(), full: new Map(), attempts: 0, failures: 0, suspicions: 0 };
  try {
    for (;;) {
      const attempt = begin(await pick(options, history, limit), ++history.attempts, options);
      const firstEvent = createTimeLimit(options.policy.attemptTimeoutMs, limit.signal);
      try {
        return await options.make({ ...attempt, signal: firstEvent.signal, timeoutMs: limit.leftMs() });
      } catch (thrown) {
        const isSilent = firstEvent.expired && !limit.signal.aborted;
        const error = isSilent
          ? unavailable(`no sign of the worker within ${options.policy.attemptTimeoutMs} ms`, thrown)
          : explainDeadline(thrown, limit.signal, `waiting for the worker's answer${afterRetries(history)}`);
        const retry = !limit.signal.aborted && mayRetry(error, attempt.worker, options, history);
        attempt.end(error, retry ? (isSilent ? "no sign of the worker in time" : retryReasonOf(error)) : undefined);
        if (!retry) {
          throw error;
        }
        history.lastError = error;
      } finally {
        firstEvent.stop();
      }
    }
  } finally {
    limit.stop();
  }
}

/** The next worker, after a pause where the call has failed on it before. */
async function pick<T>(options: RetryCallOptions<T>, history: History, limit: TimeLimit): Promise<BalancedWorker> {
  const { balancer, policy, service } = options;
  try {
    const worker = await balancer.pick(service, history, limit.signal);
    if (!history.tried.has(worker)) {
      return worker;
    }
    // Jittered as gRPC's own: between 0.8 and 1.2 of it.
    const backoffMs = policy.initialBackoffMs * policy.backoffMultiplier ** (history.failures - 1);
    const pauseMs = Math.min(backoffMs, policy.maxBackoffMs) * (0.8 + 0.4 * Math.random());
    if (history.lastError !== undefined && pauseMs >= (limit.leftMs() ?? Number.POSITIVE_INFINITY)) {
      throw history.lastError;
    }
    await delay(pauseMs, undefined, { signal: limit.signal });
    return await balancer.pick(service, history, limit.signal);
  } catch (error) {
    throw explainDeadline(error, limit.signal, `waiting for a worker${afterRetries(history)}`);
  }
}

function begin<T>(worker: BalancedWorker, number: number, { budget, onAttempt }: RetryCallOptions<T>) {
  const load = worker.load.begin();
  const { host: address, port } = worker.address;
  let ended = false;
  return {
    worker,
    load,
    /** @param retryReason why another attempt follows, where one does. */
    end(error: ConnectError | undefined, retryReason?: RetryReason): void {
      if (ended) {
        return;
      }
      ended = true;
      load.end(error === undefined);
      worker.outliers.ended(error?.code);
      if (error === undefined) {
        budget.succeeded();
      }
      if (error?.code !== Code.ResourceExhausted) {
        worker.freed();
      }
      onAttempt({ number, address, port, code: error?.code, retryReason });
    },
  };
}

/** Whether another attempt may follow a failure, and what the failure says of the worker. */
function mayRetry<T>(error: ConnectError, worker: BalancedWorker, options: RetryCallOptions<T>, history: History) {
  const { budget, policy, repeatable } = options;
  const verdict = judgeFailure(error);
  switch (verdict.kind) {
    case "final":
      return false;
    case "full":
      worker.refuseFor(verdict.retryAfterMs);
      history.full.set(worker, { retryAfterMs: verdict.retryAfterMs, reason: error.rawMessage });
      return repeatable;
    case "failed":
      worker.doubt();
      worker.refuseFor(verdict.retryAfterMs);
      history.tried.add(worker);
      history.failures++;
      history.suspicions += isSuspicious(error) ? 1 : 0;
      budget.failed();
      return repeatable && budget.allows && history.failures < policy.maxAttempts && history.suspicions < 2;
  }
}

function afterRetries({ attempts }: History): string {
  return attempts < 2 ? "" : `, attempt ${attempts}`;
}
