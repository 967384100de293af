import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { createConnectError, errorInfo, retryInfo } from "../../mesh/errors/errors.js";

/**
 * Rate limit of polls, by client. A client that polls faster waits for its turn, which slows down those that send one poll after another; one
 * whose turn is too far away is rejected.
 */
export interface PollPace {
  /**
   * Resolves at the client's turn: at once below the limit.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED with RetryInfo.
   */
  turn(client: string): Promise<void>;
}

/** Options of {@link createPollPace}. */
export interface PollPaceOptions {
  /** Polls of a client a second. @default 500 */
  readonly perSecond?: number;
  /** Longest wait for a turn, in milliseconds. @default 1,000 */
  readonly maxWaitMs?: number;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: () => number;
}

/** Default of {@link PollPaceOptions.perSecond}: Python's client polls ten times a second for each request. */
export const pollsPerSecond = 500;
const maxClients = 10_000;

/** Create the limit. */
export function createPollPace(options: PollPaceOptions = {}): PollPace {
  const { perSecond = pollsPerSecond, maxWaitMs = 1_000, now = () => performance.now() } = options;
  const intervalMs = 1_000 / perSecond;
  /** When the polls of a client, one after another at the limit's rate, are done. */
  const doneAt = new LRUCache<string, number>({ max: maxClients });
  return {
    async turn(client) {
      const at = now();
      const done = Math.max(doneAt.get(client) ?? 0, at - 1_000) + intervalMs;
      const waitMs = done - at;
      if (waitMs > maxWaitMs) {
        throw createConnectError({
          code: Code.ResourceExhausted,
          message: `more than ${perSecond} polls a second of this client; poll less often, or read status/stream`,
          details: [retryInfo(maxWaitMs), errorInfo("RATE_LIMIT")],
        });
      }
      doneAt.set(client, done);
      if (waitMs > 1) {
        await delay(waitMs);
      }
    },
  };
}
