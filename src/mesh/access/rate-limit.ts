/** A token bucket: full at first, one token a request, refilled evenly. */
export interface RateLimit {
  /** Takes a token. Returns 0, or without a token the milliseconds until there is one. */
  take(): number;
}

/** Options of {@link createRateLimit}. */
export interface RateLimitOptions {
  /** Tokens that come back each second, more than 0. */
  readonly perSecond: number;
  /** Tokens that the bucket holds, 1 or more: how many requests may come at once after a pause. */
  readonly burst: number;
  /** Milliseconds of a clock that never goes back. */
  readonly now?: (() => number) | undefined;
}

/** Makes a bucket. */
export function createRateLimit({ perSecond, burst, now = () => performance.now() }: RateLimitOptions): RateLimit {
  let tokens = burst;
  let filledAt = now();
  return {
    take() {
      const at = now();
      tokens = Math.min(burst, tokens + ((at - filledAt) / 1000) * perSecond);
      filledAt = at;
      if (tokens >= 1) {
        tokens--;
        return 0;
      }
      return Math.ceil(((1 - tokens) / perSecond) * 1000);
    },
  };
}
