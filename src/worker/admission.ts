import type { PaintTimings } from "../engine/engine.js";
import { createFairQueue, type FairItem } from "./fair-queue.js";
import { createPaintingEstimate, type PaintingWork } from "./painting-estimate.js";
import { type TooLate, tooLate } from "./too-late.js";

/** How many may wait, and how time is told. */
export interface AdmissionOptions {
  /** Requests that may wait for the engine, besides the one that it paints. 0: nobody waits. @default 16 */
  readonly maxWaiting?: number | undefined;
  /** Milliseconds from any fixed point; tests give their own. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Who asks, for what, and how long it can wait. */
export interface AdmissionRequest {
  /** Key of the caller, with whom the engine is shared fairly. */
  readonly caller: string;
  readonly work: PaintingWork;
  /** Milliseconds until the answer is worth nothing; undefined without a deadline. */
  readonly remainingMs?: number | undefined;
}

/** Where a waiting request stands. */
export interface QueuePosition {
  /** Requests before this one; 0 is next. It can grow: a caller who has had less goes first. */
  readonly position: number;
  /** Estimated milliseconds until its turn; 0 while no painting has been timed yet. */
  readonly estimatedWaitMs: number;
}

/** A request's place, from its admission until it leaves. */
export interface Place {
  /**
   * Waits for the turn: yields the position at once and whenever it changes, and ends when the engine is free for this request.
   * Throws the signal's reason when it is aborted first, and DisplacedError when the place went to another caller; the place must be left
   * then too.
   */
  turn(signal: AbortSignal): AsyncGenerator<QueuePosition, void, undefined>;
  /** Whether painting alone, from now on, takes clearly too long. */
  tooLate(remainingMs: number | undefined): TooLate | undefined;
  /**
   * Gives the place up, waiting or painting. May be called again without harm. `painted` is given where there is a picture: only those
   * count for the estimates, because a painting that was cancelled or refused says nothing about how long one takes.
   */
  leave(painted?: Pick<PaintTimings, "denoisingMs" | "vaeDecodeMs">): void;
}

export type AdmissionResult =
  | { readonly kind: "admitted"; readonly place: Place }
  /** No room: `retryAfterMs` is when those who are here will have been painted, estimated; 0 when nothing is known. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  | ({ readonly kind: "too-late" } & TooLate)
  /** It is paused. */
  | { readonly kind: "paused" };

/** Another caller, who had less waiting, got this place of a full queue. */
export class DisplacedError extends Error {
  override readonly name = "DisplacedError";
  /** As for a full queue. */
  readonly retryAfterMs: number;

  constructor(retryAfterMs: number) {
    super("the place went to another caller");
    this.retryAfterMs = retryAfterMs;
  }
}

/** The door to one engine: one request paints, a bounded number waits, the rest is refused at once. */
export interface Admission {
  /**
   * Lets a request in, or says why not.
   *
   * Turns are fair across callers: see {@link FairQueue}. So are the places: one caller may use them all while nobody else comes, but when
   * another one does, the newest request of the caller who has most waiting gives its place up, until no caller has
   * more than one place more than another who was refused.
   *
   * A request that will clearly be too late is refused: see {@link tooLate}. It is not looked at again while it waits, where the estimate grows
   * and shrinks with those who come and leave; at its turn {@link Place.tooLate} says whether to begin at all.
   */
  enter(request: AdmissionRequest): AdmissionResult;
  /** While it is paused nobody enters or gets a turn: the engine is away, and those who wait are to wait for it. */
  setPaused(paused: boolean): void;
  /** Requests that wait now. */
  readonly waiting: number;
}

/** Requests that may wait, where nothing else is said. */
export const defaultMaxWaiting = 16;

interface Entry extends FairItem {
  readonly work: PaintingWork;
  /** Wakes `turn`; replaced after each use. */
  changed: () => void;
  displaced: DisplacedError | undefined;
}

/** @throws Error when `maxWaiting` is not a whole number of at least 0. */
export function createAdmission(options: AdmissionOptions = {}): Admission {
  const { maxWaiting = defaultMaxWaiting, now = () => performance.now() } = options;
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0) {
    throw new Error(`maxWaiting must be a whole number of at least 0, got ${maxWaiting}`);
  }
  const estimate = createPaintingEstimate(now);
  const queue = createFairQueue<Entry>();
  // Invariant: `painting` is set if and only if a place was given the turn and has not been left.
  let painting: { readonly entry: Entry; readonly since: number } | undefined;
  let paused = false;
  /** Position and the work before it, of those who wait; made when it is first asked for after a change. */
  let standings: ReadonlyMap<Entry, { readonly position: number; readonly beforeMs: number }> | undefined;

  const currentMs = (): number =>
    painting === undefined ? 0 : Math.max(0, estimate.of(painting.entry.work) - (now() - painting.since));

  const standingsNow = () => {
    if (standings === undefined) {
      let beforeMs = 0;
      standings = new Map(
        queue.order().map((entry, position) => {
          const standing = { position, beforeMs };
          beforeMs += estimate.of(entry.work);
          return [entry, standing];
        }),
      );
    }
    return standings;
  };

  const positionOf = (entry: Entry): QueuePosition => {
    const { position = 0, beforeMs = 0 } = standingsNow().get(entry) ?? {};
    return { position, estimatedWaitMs: currentMs() + beforeMs };
  };

  const allPaintedMs = (): number =>
    [...standingsNow().keys()].reduce((sum, { work }) => sum + estimate.of(work), currentMs());

  /** After every change of who is here: gives the turn, where the engine is free, and lets the others look where they stand. */
  const advance = (): void => {
    if (painting === undefined && !paused) {
      const entry = queue.shift();
      if (entry !== undefined) {
        painting = { entry, since: now() };
        entry.changed();
      }
    }
    standings = undefined;
    for (const entry of standingsNow().keys()) {
      entry.changed();
    }
  };

  const leave = (entry: Entry, painted: Parameters<Place["leave"]>[0]): void => {
    if (painting?.entry === entry) {
      const totalMs = now() - painting.since;
      if (painted !== undefined) {
        estimate.learn(entry.work, { ...painted, totalMs });
      }
      painting = undefined;
      queue.charge(totalMs);
    } else {
      queue.remove(entry);
    }
    advance();
  };

  async function* turn(entry: Entry, signal: AbortSignal): AsyncGenerator<QueuePosition, void, undefined> {
    let told = -1;
    const onAbort = () => entry.changed();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      while (painting?.entry !== entry) {
        signal.throwIfAborted();
        if (entry.displaced !== undefined) {
          throw entry.displaced;
        }
        const changed = new Promise<void>((resolve) => {
          entry.changed = resolve;
        });
        const standing = positionOf(entry);
        if (standing.position !== told) {
          told = standing.position;
          yield standing;
        }
        await changed;
      }
      signal.throwIfAborted();
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  return {
    enter({ caller, work, remainingMs }): AdmissionResult {
      if (paused) {
        return { kind: "paused" };
      }
      const retryAfterMs = allPaintedMs();
      const entry: Entry = {
        caller,
        work,
        // While nothing is known all cost the same, so that the order is one request of each caller in turn.
        cost: () => estimate.of(work) || 1,
        changed: () => {},
        displaced: undefined,
      };
      queue.push(entry);
      standings = undefined;
      const overfull = painting !== undefined && queue.size > maxWaiting;
      const surplus = overfull ? queue.newestOfLongest() : undefined;
      const late = tooLate(estimate, { work, waitMs: positionOf(entry).estimatedWaitMs, remainingMs });
      if (surplus === entry || late !== undefined) {
        queue.remove(entry);
        standings = undefined;
        return late === undefined ? { kind: "full", retryAfterMs } : { kind: "too-late", ...late };
      }
      if (surplus !== undefined) {
        surplus.displaced = new DisplacedError(retryAfterMs);
        queue.remove(surplus);
        surplus.changed();
      }
      advance();
      return {
        kind: "admitted",
        place: {
          turn: (signal) => turn(entry, signal),
          tooLate: (remainingMs) => tooLate(estimate, { work, waitMs: 0, remainingMs }),
          leave: (painted) => leave(entry, painted),
        },
      };
    },
    setPaused(value) {
      paused = value;
      advance();
    },
    get waiting() {
      return queue.size;
    },
  };
}
