import { ConnectError } from "@connectrpc/connect";
import type { AdmittedCall } from "../mesh/access/access-control.js";
import { hasReason } from "../mesh/errors/errors.js";
import type { FrontCall } from "../mesh/serve/http-front.js";

/** Runs calls within the caller's limits. */
export interface CallSlots {
  /**
   * Runs a call as soon as the caller may have one more. Its signal is aborted when the client disconnects, or another call fails.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED over the rate limit.
   */
  run<T>(generate: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/**
 * Create slots. The first call has the slot of the HTTP request; each other one is admitted by itself. At the caller's limit of concurrent
 * calls, or with `maxCalls` running, it waits for the end of one of these calls.
 */
export function createCallSlots(call: FrontCall, first: AdmittedCall, maxCalls: number): CallSlots {
  let unused: AdmittedCall | undefined = first;
  let running = 0;
  let waiting: (() => void)[] = [];
  const failed = new AbortController();
  const signal = AbortSignal.any([call.signal, failed.signal]);

  const acquire = async (): Promise<AdmittedCall> => {
    for (;;) {
      signal.throwIfAborted();
      if (running >= maxCalls) {
        await new Promise<void>((resolve) => waiting.push(resolve));
        continue;
      }
      try {
        const slot = unused ?? call.admit();
        unused = undefined;
        running++;
        return slot;
      } catch (error) {
        const isFull = error instanceof ConnectError && hasReason(error, "CONCURRENCY_LIMIT");
        if (!isFull || running === 0) {
          throw error;
        }
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    }
  };

  return {
    async run(generate) {
      try {
        const slot = await acquire();
        try {
          return await generate(signal);
        } finally {
          running--;
          slot.release();
        }
      } catch (error) {
        failed.abort(error);
        throw error;
      } finally {
        // After the abort: calls that wake then must not take a token of the caller's rate.
        const woken = waiting;
        waiting = [];
        for (const wake of woken) {
          wake();
        }
      }
    },
  };
}
