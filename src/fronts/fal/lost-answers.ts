import { createHash } from "node:crypto";
import { LRUCache } from "lru-cache";
import type { NodeResponse } from "../../mesh/port/node-handler.js";
import { isClosed } from "../../mesh/serve/node-request.js";

/**
 * Submissions whose answer was not delivered. fal's clients send such a submission again, without any mark, and would make a second job.
 *
 * Only these are joined with an equal submission that follows: their request id is known to nobody. Two equal submissions that were both
 * answered stay two.
 */
export interface LostAnswers {
  /** Takes the job id of an equal submission whose answer was lost; undefined if there is none. Each is taken once. */
  take(print: string): Promise<string> | undefined;
  /** Keeps a submission if its client disconnects before its answer is sent. Call it before the job is created. */
  watch(print: string, response: NodeResponse, jobId: Promise<string>): void;
}

/** Time in which clients retry, in milliseconds. Python's gives up after ten attempts, which take less. */
const keptMs = 300_000;
const maxKept = 10_000;

/** Create an empty store. It is in memory: a retry at another pipeline, or after a restart, makes a second job. */
export function createLostAnswers(): LostAnswers {
  const lost = new LRUCache<string, Promise<string>>({ max: maxKept, ttl: keptMs });
  return {
    take(print) {
      const found = lost.get(print);
      lost.delete(print);
      return found;
    },
    watch(print, response, jobId) {
      const keep = () => void lost.set(print, jobId);
      if (isClosed(response)) {
        keep();
      } else {
        let isSent = false;
        response.once("finish", () => {
          isSent = true;
        });
        response.once("close", () => isSent || keep());
      }
      // A submission that failed is none.
      jobId.catch(() => lost.peek(print) === jobId && lost.delete(print));
    },
  };
}

/** Fingerprint of a submission: of everything that makes its job. */
export function printOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) {
    hash.update(`${part.length} `).update(part);
  }
  return hash.digest("base64");
}
