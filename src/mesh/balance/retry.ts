import { Code, type ConnectError } from "@connectrpc/connect";
import { hasReason, retryDelayMsOf, unavailable } from "../errors/errors.js";
import { CallFailure } from "../grpc/grpc-status.js";
import type { Policies } from "../grpc/policies.js";
import type { CallAttempt, RetryReason } from "./attempt.js";
import type { Balancer, CallHistory } from "./balancer.js";
import type { CallLimit } from "./call-limit.js";
import type { Replica } from "./replica.js";
import type { LoadCall } from "./replica-load.js";

/** Options of {@link callWithRetries}. */
export interface RetryOptions<T> {
  readonly balancer: Balancer;
  readonly budget: RetryBudget;
  readonly policy: Policies["retry"];
  /** False for a call whose requests can be read only once: it has one attempt. */
  readonly repeatable: boolean;
  /** Whether the call waits for a reachable replica until its deadline. */
  readonly waitForReady: boolean;
  readonly limit: CallLimit;
  /** Called at the end of each attempt. */
  readonly onAttempt: (attempt: CallAttempt) => void;
  /** Makes the call on one replica and resolves with its first event. From then on there are no retries. Rejects with a CallFailure. */
  readonly make: (attempt: RunningAttempt) => Promise<T>;
}

/** An attempt that runs. */
export interface RunningAttempt {
  readonly replica: Replica;
  readonly load: LoadCall;
  /** Ends the attempt on the wire. `make` sets it. */
  cancel: (failure: CallFailure) => void;
  /** To be called when the attempt ends after its first event; undefined means OK. Only the first call counts. */
  end(error: ConnectError | undefined): void;
}

interface History extends CallHistory {
  readonly tried: Set<Replica>;
  readonly full: Map<Replica, CallFailure>;
  /** Attempts of all kinds. */
  attempts: number;
  /** Attempts that failed because the replica was lost or not ready. */
  failures: number;
  /** Those among them that the call itself may have caused. */
  suspicions: number;
  last: CallFailure | undefined;
}

/**
 * Makes one call, on one replica after the other where it has to be:
 * - a replica without room sends it on to another at once. Such rejections cost neither attempts nor budget, because each replica is asked
 *   once;
 * - a replica that is lost or not ready costs one of `maxAttempts` and a token of the budget. A replica that was not asked yet is asked at
 *   once, one that the call has failed on after a growing pause;
 * - the second replica whose engine dies while it runs this very call ends it: the call may be the cause;
 * - every other failure, and every one after the first event, is final.
 *
 * Nothing is retried past the deadline or the end of the signal.
 *
 * @throws CallFailure the last attempt's, the limit's, or the balancer's.
 */
export async function callWithRetries<T>(options: RetryOptions<T>): Promise<T> {
  const { limit, policy } = options;
  const history: History = {
    tried: new Set(),
    full: new Map(),
    attempts: 0,
    failures: 0,
    suspicions: 0,
    last: undefined,
  };
  for (;;) {
    const replica = await pick(options, history);
    if (limit.over !== undefined) {
      throw limit.over;
    }
    history.attempts++;
    limit.where = `waiting for the worker's answer${afterRetries(history)}`;
    const attempt = begin(replica, history.attempts, options);
    limit.whenOver((failure) => attempt.cancel(failure));
    const silence = policy.attemptTimeoutMs === undefined ? undefined : startSilence(policy.attemptTimeoutMs, attempt);
    try {
      return await options.make(attempt);
    } catch (thrown) {
      const failure = atDeadline(thrown, limit);
      const retry = limit.over === undefined && mayRetry(failure, replica, options, history);
      attempt.end(failure.error, retry ? retryReasonOf(failure) : undefined);
      if (!retry) {
        throw failure;
      }
      history.last = failure;
    } finally {
      clearTimeout(silence);
    }
  }
}

/**
 * The failure to report: the limit's, once the call is over. A server's timer may fire before ours, and all that its reset of the stream
 * says is CANCELLED (as in grpc-go, which checks the deadline too).
 */
export function atDeadline(thrown: unknown, limit: CallLimit): CallFailure {
  if (!(thrown instanceof CallFailure)) {
    throw thrown;
  }
  if (thrown.error.code === Code.Canceled) {
    limit.checkDeadline();
    return limit.over ?? thrown;
  }
  return thrown;
}

/** The next replica, after a pause where the call has failed on it before. */
async function pick<T>(options: RetryOptions<T>, history: History): Promise<Replica> {
  const { balancer, policy, limit } = options;
  limit.where = `waiting for a worker${afterRetries(history)}`;
  try {
    const replica = await nextReplica(options, history);
    if (history.last === undefined || !history.tried.has(replica)) {
      return replica;
    }
    // Jittered as gRPC's own: between 0.8 and 1.2 of it.
    const backoffMs = policy.initialBackoffMs * policy.backoffMultiplier ** (history.failures - 1);
    const pauseMs = Math.min(backoffMs, policy.maxBackoffMs) * (0.8 + 0.4 * Math.random());
    if (pauseMs >= (limit.leftMs() ?? Number.POSITIVE_INFINITY)) {
      throw history.last;
    }
    await pause(pauseMs, limit);
    return balancer.choose(history) ?? (await nextReplica(options, history));
  } catch (failure) {
    // Else a caller that calls again at once would keep the event loop from the updates that a replica is back.
    await new Promise(setImmediate);
    // What a replica itself answered says more than that none is left.
    const answered = limit.over === undefined && history.full.size === 0 && history.last?.origin === "server";
    throw answered ? history.last : failure;
  }
}

/** Waits until the balancer has a replica. */
async function nextReplica<T>({ balancer, limit, waitForReady }: RetryOptions<T>, history: History): Promise<Replica> {
  for (;;) {
    if (limit.over !== undefined) {
      throw limit.over;
    }
    const replica = balancer.choose(history, waitForReady);
    if (replica !== undefined) {
      return replica;
    }
    await new Promise<void>((resolve) => {
      const forget = balancer.onNextChange(resolve);
      limit.whenOver(() => {
        forget();
        resolve();
      });
    });
  }
}

function pause(ms: number, limit: CallLimit): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    limit.whenOver((failure) => {
      clearTimeout(timer);
      reject(failure);
    });
  });
}

/** Ends an attempt without a first event in time. */
function startSilence(ms: number, attempt: RunningAttempt): NodeJS.Timeout {
  const message = `no sign of the worker within ${ms} ms`;
  return setTimeout(() => {
    attempt.cancel(new CallFailure(unavailable(message, undefined, "ATTEMPT_TIMEOUT"), "silence"));
  }, ms);
}

function begin<T>(replica: Replica, number: number, { budget, onAttempt }: RetryOptions<T>) {
  const load = replica.load.begin();
  const { host: address, port } = replica.address;
  let ended = false;
  return {
    replica,
    load,
    cancel: (_failure: CallFailure) => {},
    /** @param retryReason why another attempt follows, where one does. */
    end(error: ConnectError | undefined, retryReason?: RetryReason): void {
      if (ended) {
        return;
      }
      ended = true;
      load.end(error === undefined);
      replica.outliers.ended(error?.code);
      if (error === undefined) {
        budget.succeeded();
      }
      if (error?.code !== Code.ResourceExhausted) {
        replica.freed();
      }
      onAttempt({ number, address, port, code: error?.code, retryReason });
    },
  };
}

/** Whether another attempt may follow a failure. Marks the replica with what the failure says of it. */
function mayRetry<T>(failure: CallFailure, replica: Replica, options: RetryOptions<T>, history: History): boolean {
  const { budget, policy, repeatable } = options;
  const verdict = classifyFailure(failure);
  switch (verdict.kind) {
    case "final":
      return false;
    case "full":
      replica.rejectFor(verdict.retryAfterMs);
      history.full.set(replica, failure);
      return repeatable;
    case "failed":
      if (failure.origin !== "server") {
        replica.suspect();
      }
      replica.rejectFor(verdict.retryAfterMs);
      history.tried.add(replica);
      history.failures++;
      history.suspicions += hasReason(failure.error, "ENGINE_LOST") ? 1 : 0;
      budget.failed();
      return repeatable && budget.allows && history.failures < policy.maxAttempts && history.suspicions < 2;
  }
}

/** What a failure before the first event means. */
type RetryVerdict =
  /** The call fails with this error. */
  | { readonly kind: "final" }
  /** The replica has no room for the call and did nothing: another may be asked at once, this one not again. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  /** The replica is lost or not ready: the call may be made again. */
  | { readonly kind: "failed"; readonly retryAfterMs: number };

/**
 * Only UNAVAILABLE, and RESOURCE_EXHAUSTED with a google.rpc.RetryInfo, may be retried: without one RESOURCE_EXHAUSTED means a message over
 * the size limit, which is so everywhere. A negative or unreadable `grpc-retry-pushback-ms` forbids another attempt. One above 0 with
 * RESOURCE_EXHAUSTED asks the caller for a pause, as for a caller over its rate, and says nothing of the replica's room.
 *
 * @see https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
 */
function classifyFailure({ error, pushbackMs }: CallFailure): RetryVerdict {
  if (pushbackMs !== undefined && !(pushbackMs >= 0)) {
    return { kind: "final" };
  }
  const delayMs = retryDelayMsOf(error);
  if (error.code === Code.Unavailable) {
    return { kind: "failed", retryAfterMs: Math.max(pushbackMs ?? 0, delayMs ?? 0) };
  }
  if (error.code === Code.ResourceExhausted && delayMs !== undefined && !(pushbackMs !== undefined && pushbackMs > 0)) {
    return { kind: "full", retryAfterMs: delayMs };
  }
  return { kind: "final" };
}

function retryReasonOf({ error, origin }: CallFailure): RetryReason {
  if (error.code === Code.ResourceExhausted) {
    return "the worker is full";
  }
  if (origin === "silence") {
    return "no sign of the worker in time";
  }
  if (hasReason(error, "ENGINE_LOST")) {
    return "the worker was lost over this call";
  }
  return origin === "connection" ? "the connection to the server was lost" : "the worker is not available";
}

function afterRetries({ attempts }: History): string {
  return attempts < 2 ? "" : `, attempt ${attempts}`;
}

/** Bounds the retries of all calls of an app together, so that they cannot multiply the load on one that is failing. */
export interface RetryBudget {
  /** An attempt failed in a way that could be retried. */
  failed(): void;
  /** A call went well. */
  succeeded(): void;
  /** Whether a failed call may be made again now. */
  readonly allows: boolean;
}

/**
 * The token bucket of gRPC's retryThrottling, which begins full: a failure takes one token, a success gives `tokenRatio` back, and there are
 * no retries while half of the bucket or less is left.
 *
 * @see https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs
 */
export function createRetryBudget({ maxTokens, tokenRatio }: Policies["retry"]["budget"]): RetryBudget {
  let tokens = maxTokens;
  return {
    failed() {
      tokens = Math.max(0, tokens - 1);
    },
    succeeded() {
      tokens = Math.min(maxTokens, tokens + tokenRatio);
    },
    get allows() {
      return tokens > maxTokens / 2;
    },
  };
}
