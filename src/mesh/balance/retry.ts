import { Code, type ConnectError } from "@connectrpc/connect";
import { hasReason, retryDelayMsOf, unavailable } from "../errors/errors.js";
import { CallFailure } from "../grpc/grpc-status.js";
import type { Policies } from "../grpc/policies.js";
import type { CallAttempt, RetryReason } from "./attempt.js";
import type { Balancer, CallHistory } from "./balancer.js";
import type { CallLimit } from "./call-limit.js";
import type { Replica } from "./replica.js";
import type { LoadCall } from "./replica-load.js";
import type { OlderReplicas, RequestFallback } from "./request-fallback.js";

/** Options of {@link callWithRetries}. */
export interface RetryOptions<T> {
  readonly balancer: Balancer;
  readonly budget: RetryBudget;
  readonly policy: Policies["retry"];
  /** False if the request messages can be read only once: one attempt, no retry. */
  readonly repeatable: boolean;
  /** Older form of the request for replicas that reject the current one, and which replicas do. */
  readonly fallback: RequestFallback | undefined;
  readonly older: OlderReplicas;
  /** Whether to wait for a reachable replica until the deadline. */
  readonly waitForReady: boolean;
  readonly limit: CallLimit;
  /** Whether the call occupies no slot of the worker, and so does not count for its load. */
  readonly withoutLoad: boolean;
  /** Called at the end of each attempt. */
  readonly onAttempt: (attempt: CallAttempt) => void;
  /** Runs one attempt and resolves with its first event, after which nothing is retried. Rejects with a CallFailure. */
  readonly make: (attempt: RunningAttempt) => Promise<T>;
}

/** A running attempt. */
export interface RunningAttempt {
  readonly replica: Replica;
  readonly load: LoadCall;
  /** Whether the replica gets the older form of the request. */
  readonly older: boolean;
  /** Cancels the attempt on the wire. Set by `make`. */
  cancel: (failure: CallFailure) => void;
  /** Call it when the attempt ends after its first event; undefined means OK. Idempotent. */
  end(error: ConnectError | undefined): void;
}

interface History extends CallHistory {
  readonly tried: Set<Replica>;
  readonly full: Map<Replica, CallFailure>;
  /** All attempts, rejections included. */
  attempts: number;
  /** Attempts that failed because the replica was unreachable or not ready. */
  failures: number;
  /** Failures that the call itself may have caused. */
  suspicions: number;
  last: CallFailure | undefined;
}

/**
 * Run one call with retries:
 * - full replica: the next one is tried at once. Such rejections cost neither attempts nor budget, because each replica is tried once;
 * - unreachable or not ready: costs one of `maxAttempts` and a budget token. An untried replica is tried at once, a tried one after an
 *   exponential backoff;
 * - the replica needs the older form of the request: any replica is tried at once, this one with the older form. Costs neither;
 * - the engine dies during the call: the second time is final, because the call may be the cause;
 * - any other failure, and any failure after the first event: final.
 *
 * Nothing is retried after the deadline or after the signal is aborted.
 *
 * @throws CallFailure of the last attempt, the limit, or the balancer.
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
    limit.where = `waiting for the worker's response${afterRetries(history)}`;
    const attempt = begin(replica, history.attempts, options);
    limit.whenOver((failure) => attempt.cancel(failure));
    const timeout =
      policy.attemptTimeoutMs === undefined ? undefined : startAttemptTimeout(policy.attemptTimeoutMs, attempt);
    try {
      return await options.make(attempt);
    } catch (thrown) {
      const failure = atDeadline(thrown, limit);
      const retry = limit.over === undefined && mayRetry(failure, attempt, options, history);
      attempt.end(failure.error, retry ? retryReasonOf(failure) : undefined);
      if (!retry) {
        throw failure;
      }
      // A rejected form says nothing about the request, so it is not what a call without a next replica fails with.
      history.last = rejectsForm(failure, attempt, options) ? history.last : failure;
    } finally {
      clearTimeout(timeout);
    }
  }
}

/**
 * Replace CANCELLED by the limit's failure if the deadline has passed. A server's timer may fire before ours, and its reset of the stream
 * carries CANCELLED only (grpc-go checks the deadline too).
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

/** Choose the next replica, after a backoff if the call has failed on it before. */
async function pick<T>(options: RetryOptions<T>, history: History): Promise<Replica> {
  const { balancer, policy, limit } = options;
  limit.where = `waiting for a worker${afterRetries(history)}`;
  try {
    const replica = await nextReplica(options, history);
    if (history.last === undefined || !history.tried.has(replica)) {
      return replica;
    }
    // The same jitter as gRPC's own retries: ±20 %.
    const exponentialMs = policy.initialBackoffMs * policy.backoffMultiplier ** (history.failures - 1);
    const backoffMs = Math.min(exponentialMs, policy.maxBackoffMs) * (0.8 + 0.4 * Math.random());
    if (backoffMs >= (limit.leftMs() ?? Number.POSITIVE_INFINITY)) {
      throw history.last;
    }
    await backOff(backoffMs, limit);
    return balancer.choose(history) ?? (await nextReplica(options, history));
  } catch (failure) {
    // Yield: a caller that retries in a loop would otherwise starve the health updates.
    await new Promise(setImmediate);
    // A replica's own error is more specific than "no replica is reachable".
    const answered = limit.over === undefined && history.full.size === 0 && history.last?.origin === "server";
    throw answered ? history.last : failure;
  }
}

/** Wait until the balancer chooses a replica. */
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

function backOff(ms: number, limit: CallLimit): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    limit.whenOver((failure) => {
      clearTimeout(timer);
      reject(failure);
    });
  });
}

/** Cancel an attempt that has no first event in time. */
function startAttemptTimeout(ms: number, attempt: RunningAttempt): NodeJS.Timeout {
  const message = `no response from the worker within ${ms} ms (retry.attemptTimeoutMs)`;
  return setTimeout(() => {
    attempt.cancel(new CallFailure(unavailable(message, undefined, "ATTEMPT_TIMEOUT"), "attempt-timeout"));
  }, ms);
}

/** Load of a call that takes no slot. */
const noLoad: LoadCall = { report() {}, end() {} };

function begin<T>(replica: Replica, number: number, { budget, older, withoutLoad, onAttempt }: RetryOptions<T>) {
  const load = withoutLoad ? noLoad : replica.load.begin();
  const { host: address, port } = replica.address;
  let ended = false;
  return {
    replica,
    load,
    older: older.has(replica),
    cancel: (_failure: CallFailure) => {},
    /** @param retryReason reason for the retry that follows, if any. */
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
        replica.onCapacity();
      }
      onAttempt({ number, address, port, code: error?.code, retryReason });
    },
  };
}

/** Update the replica's state by a failure and return whether to retry. */
function mayRetry<T>(
  failure: CallFailure,
  attempt: RunningAttempt,
  options: RetryOptions<T>,
  history: History,
): boolean {
  const { budget, policy, repeatable, older } = options;
  const { replica } = attempt;
  if (rejectsForm(failure, attempt, options)) {
    older.add(replica);
    return repeatable;
  }
  const failureClass = classifyFailure(failure);
  switch (failureClass.kind) {
    case "final":
      return false;
    case "full":
      replica.rejectFor(failureClass.retryAfterMs);
      history.full.set(replica, failure);
      return repeatable;
    case "failed":
      if (failure.origin !== "server") {
        replica.markSuspect();
      }
      replica.rejectFor(failureClass.retryAfterMs);
      history.tried.add(replica);
      history.failures++;
      history.suspicions += hasReason(failure.error, "ENGINE_LOST") ? 1 : 0;
      budget.failed();
      return repeatable && budget.allows && history.failures < policy.maxAttempts && history.suspicions < 2;
  }
}

/** Whether an attempt with the current form of the request failed because its replica needs the older one. */
function rejectsForm<T>({ error }: CallFailure, attempt: RunningAttempt, { fallback }: RetryOptions<T>): boolean {
  return !attempt.older && fallback?.rejectsCurrent(error) === true;
}

/** Class of a failure before the first event. */
type FailureClass =
  /** Not retryable. */
  | { readonly kind: "final" }
  /** The replica is full and did nothing: try another one at once, not this one again. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  /** The replica is unreachable or not ready: retry. */
  | { readonly kind: "failed"; readonly retryAfterMs: number };

/**
 * Classify a failure. Retryable are UNAVAILABLE, and RESOURCE_EXHAUSTED with google.rpc.RetryInfo.
 *
 * RESOURCE_EXHAUSTED without RetryInfo means a message over the size limit, which fails on every replica. A negative or malformed
 * `grpc-retry-pushback-ms` forbids a retry. A positive one with RESOURCE_EXHAUSTED means a caller over its rate limit, not a full replica.
 *
 * @see https://github.com/grpc/proposal/blob/master/A6-client-retries.md#pushback
 */
function classifyFailure({ error, pushbackMs }: CallFailure): FailureClass {
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
  if (error.code === Code.InvalidArgument) {
    return "the worker needs an older form of the request";
  }
  if (error.code === Code.ResourceExhausted) {
    return "the worker is full";
  }
  if (origin === "attempt-timeout") {
    return "no response from the worker in time";
  }
  if (hasReason(error, "ENGINE_LOST")) {
    return "the engine died during this call";
  }
  return origin === "connection" ? "the connection to the server was lost" : "the worker is not available";
}

function afterRetries({ attempts }: History): string {
  return attempts < 2 ? "" : `, attempt ${attempts}`;
}

/** Retry throttle, shared by all calls of an app, so that retries cannot multiply the load on a failing app. */
export interface RetryBudget {
  /** Records an attempt that failed with a retryable error. */
  failed(): void;
  /** Records a successful call. */
  succeeded(): void;
  /** Whether retries are allowed now. */
  readonly allows: boolean;
}

/**
 * Create the token bucket of gRPC's retryThrottling. It starts full; a failure takes one token, a success returns `tokenRatio`. Retries stop
 * while half of the bucket or less is left.
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
