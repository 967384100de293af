import { setTimeout as delay } from "node:timers/promises";
import { Code } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import { createConnectError, errorInfo, retryInfo } from "../../mesh/errors/errors.js";

/**
 * Rate limit of polls, by client. A client that polls faster waits for its turn; one whose turn is too far away is rejected, after the same
 * wait. To wait costs nothing, and slows down clients that send one poll after another: an answer at once would let them send the next.
 */
export interface PollPace {
  /**
   * Resolves at the client's turn: at once below the limit. Rejects after the longest wait.
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
/** Polls that wait for their rejection, of all clients. More are rejected at once, which keeps their memory bounded. */
const maxHeld = 4_096;

/** Create the limit. */
export function createPollPace(options: PollPaceOptions = {}): PollPace {
  const { perSecond = pollsPerSecond, maxWaitMs = 1_000, now = () => performance.now() } = options;
  const intervalMs = 1_000 / perSecond;
  /** When the polls of a client, one after another at the limit's rate, are done. */
  const doneAt = new LRUCache<string, number>({ max: maxClients });
  let held = 0;
  /** Waits before a rejection. */
  const hold = async (): Promise<void> => {
    if (held < maxHeld) {
      held++;
      await delay(maxWaitMs).finally(() => held--);
    }
  };
  return {
    async turn(client) {
      const at = now();
      const done = Math.max(doneAt.get(client) ?? 0, at - 1_000) + intervalMs;
      const waitMs = done - at;
      if (waitMs > maxWaitMs) {
        await hold();
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
