import type { ConnectError } from "@connectrpc/connect";
import { deadlineExceeded, queueFull } from "../mesh/errors/errors.js";
import type { GenerationEstimate, GenerationWork } from "./generation-estimate.js";

/** Why a request cannot be done in time, in estimated milliseconds. */
export interface DeadlineMiss {
  /** Whether it would be too late with nobody before it, too. */
  readonly evenWithoutQueue: boolean;
  readonly waitMs: number;
  readonly generationMs: number;
  readonly remainingMs: number;
}

/** Estimates from fewer generations reject nobody. */
const trustedGenerations = 3;
/** What is needed must be so many times what is left: the machine may be busier than usual, and those before may leave. */
const clearExcess = 1.5;

/**
 * Whether a request will clearly be too late: the wait and its own generation, as estimated from at least three generations, take more than 1.5
 * times what is left. Its own generation counts only where its very size was generated at least three times of late; of another size
 * nobody knows enough to reject it for itself, so a request that finds the engine idle is generated, and teaches. Without a deadline
 * (`remainingMs` undefined) none is too late.
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

/**
 * What the caller is told at once. Where generation alone takes too long, no other try helps: DEADLINE_EXCEEDED. Where it is the queue, another
 * worker may do it, or this one later: RESOURCE_EXHAUSTED, and the RetryInfo says when the queue will be short enough.
 *
 * @param queuedMs how long it has waited, where it has.
 */
export function deadlineMissError(
  { evenWithoutQueue, waitMs, generationMs, remainingMs }: DeadlineMiss,
  queuedMs?: number,
): ConnectError {
  const generation = `generation is estimated at ${seconds(generationMs)}`;
  const left = `${seconds(remainingMs)} are left`;
  return evenWithoutQueue
    ? deadlineExceeded(`${queuedMs === undefined ? "" : `queued for ${seconds(queuedMs)}, `}${generation}, and ${left}`)
    : queueFull(
        `too many are before this call for its deadline: the wait is estimated at ${seconds(waitMs)}, ${generation}, and ${left}`,
        waitMs + generationMs - remainingMs,
      );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
