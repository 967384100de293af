import type { GenerationEstimate, GenerationWork } from "./generation-estimate.js";

/** Estimates of a request that cannot meet its deadline, in milliseconds. */
export interface DeadlineMiss {
  /** Whether it would exceed the deadline with an empty queue too. */
  readonly evenWithoutQueue: boolean;
  readonly waitMs: number;
  readonly generationMs: number;
  readonly remainingMs: number;
}

/** Minimum number of measured generations before estimates may reject a request. */
const trustedGenerations = 3;
/** Factor by which the estimate must exceed the remaining time: load varies, and waiting requests may be cancelled. */
const clearExcess = 1.5;

/**
 * Check whether a request will clearly exceed its deadline: the estimated wait plus generation is more than 1.5 times the remaining time.
 *
 * Needs at least three measured generations. The generation itself counts only if its image size was measured at least three times lately;
 * a request of an unmeasured size that finds the engine idle is therefore generated. Without a deadline (`remainingMs` undefined) the result
 * is undefined.
 */
export function deadlineMiss(
  estimate: GenerationEstimate,
  request: { readonly work: GenerationWork; readonly waitMs: number; readonly remainingMs: number | undefined },
): DeadlineMiss | undefined {
  const { work, waitMs, remainingMs } = request;
  if (remainingMs === undefined || estimate.generations < trustedGenerations) {
    return undefined;
  }
  const generationMs = estimate.of(work);
  const ownMs = estimate.generationsLike(work) < trustedGenerations ? 0 : generationMs;
  const exceeds = (neededMs: number) => neededMs > clearExcess * remainingMs;
  return exceeds(waitMs + ownMs) ? { evenWithoutQueue: exceeds(ownMs), waitMs, generationMs, remainingMs } : undefined;
}
