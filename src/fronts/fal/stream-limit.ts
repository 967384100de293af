import { Code } from "@connectrpc/connect";
import { createConnectError, errorInfo, retryInfo } from "../../mesh/errors/errors.js";

/** Limit of status streams that are open at the same time, by client. They take no slot of the caller's concurrency. */
export interface StreamLimit {
  /**
   * Takes a place, and returns what gives it back. Call that once.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED with RetryInfo.
   */
  enter(client: string): () => void;
}

/** Default of the limit: as many as one caller may have waiting requests. */
export const maxStatusStreams = 1_000;
/** Retry delay, in milliseconds. The end of other streams cannot be predicted. */
const retryMs = 1_000;

/** Create the limit. @param max open streams of one client. */
export function createStreamLimit(max = maxStatusStreams): StreamLimit {
  const open = new Map<string, number>();
  return {
    enter(client) {
      const count = open.get(client) ?? 0;
      if (count >= max) {
        throw createConnectError({
          code: Code.ResourceExhausted,
          message: `this client has ${max} open status streams; close some, or poll the status`,
          details: [retryInfo(retryMs), errorInfo("CONCURRENCY_LIMIT")],
        });
      }
      open.set(client, count + 1);
      return () => {
        const others = (open.get(client) ?? 1) - 1;
        if (others > 0) {
          open.set(client, others);
        } else {
          open.delete(client);
        }
      };
    },
  };
}
