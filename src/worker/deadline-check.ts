import type { ConnectError } from "@connectrpc/connect";
import { deadlineExceeded, queueFull } from "../mesh/errors/errors.js";
import type { PaintingEstimate, PaintingWork } from "./painting-estimate.js";

/** Why a request cannot be done in time, in estimated milliseconds. */
export interface TooLate {
  /** Whether it would be too late with nobody before it, too. */
  readonly evenAlone: boolean;
  readonly waitMs: number;
  readonly paintingMs: number;
  readonly remainingMs: number;
}

/** Estimates from fewer paintings refuse nobody. */
const trustedPaintings = 3;
/** What is needed must be so many times what is left: the machine may be busier than usual, and those before may leave. */
const clearExcess = 1.5;

/**
 * Whether a request will clearly be too late: the wait and its own painting, as estimated from at least three paintings, take more than 1.5
 * times what is left. Its own painting counts only where its very size was painted at least three times of late; of another size
 * nobody knows enough to refuse it for itself, so a request that finds the engine idle is painted, and teaches. Without a deadline
 * (`remainingMs` undefined) none is too late.
 */
export function tooLate(
  estimate: PaintingEstimate,
  request: { readonly work: PaintingWork; readonly waitMs: number; readonly remainingMs: number | undefined },
): TooLate | undefined {
  const { work, waitMs, remainingMs } = request;
  if (remainingMs === undefined || estimate.paintings < trustedPaintings) {
    return undefined;
  }
  const paintingMs = estimate.of(work);
  const ownMs = estimate.paintingsLike(work) < trustedPaintings ? 0 : paintingMs;
  const exceeds = (neededMs: number) => neededMs > clearExcess * remainingMs;
  return exceeds(waitMs + ownMs) ? { evenAlone: exceeds(ownMs), waitMs, paintingMs, remainingMs } : undefined;
}

/**
 * What the caller is told at once. Where painting alone takes too long, no other try helps: DEADLINE_EXCEEDED. Where it is the queue, another
 * worker may do it, or this one later: RESOURCE_EXHAUSTED, and the RetryInfo says when the queue will be short enough.
 *
 * @param queuedMs how long it has waited, where it has.
 */
export function tooLateError({ evenAlone, waitMs, paintingMs, remainingMs }: TooLate, queuedMs?: number): ConnectError {
  const painting = `painting is estimated at ${seconds(paintingMs)}`;
  const left = `${seconds(remainingMs)} are left`;
  return evenAlone
    ? deadlineExceeded(`${queuedMs === undefined ? "" : `queued for ${seconds(queuedMs)}, `}${painting}, and ${left}`)
    : queueFull(
        `too many are before this call for its deadline: the wait is estimated at ${seconds(waitMs)}, ${painting}, and ${left}`,
        waitMs + paintingMs - remainingMs,
      );
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}
