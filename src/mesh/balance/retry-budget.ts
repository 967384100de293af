/** Options of {@link createRetryBudget}. */
export interface RetryBudgetOptions {
  /** Size of the bucket, which begins full. */
  readonly maxTokens: number;
  /** What a call that went well gives back. */
  readonly tokenRatio: number;
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
 * The token bucket of gRPC's retryThrottling: a failure takes one token, a success gives `tokenRatio` back, and there are no retries while
 * the bucket is half empty or more.
 *
 * @see https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs
 */
export function createRetryBudget({ maxTokens, tokenRatio }: RetryBudgetOptions): RetryBudget {
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
