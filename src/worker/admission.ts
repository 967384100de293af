import type { GenerationTimings } from "../engine/engine.js";
import { queueFull, unavailable } from "../mesh/errors/errors.js";
import { type DeadlineMiss, deadlineMiss, deadlineMissError } from "./deadline-check.js";
import { createFairQueue, type FairItem } from "./fair-queue.js";
import { createGenerationEstimate, type GenerationWork } from "./generation-estimate.js";
import { createPositionReports } from "./position-reports.js";

/** How many may wait, and how time is told. */
export interface AdmissionOptions {
  /** Requests that may wait for the engine, besides the one that runs. 0: nobody waits. @default 16 */
  readonly maxWaiting?: number | undefined;
  /** Milliseconds from any fixed point; tests give their own. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Who asks, for what, and how long it can wait. */
export interface AdmissionRequest {
  /** Key of the caller, with whom the engine is shared fairly. */
  readonly caller: string;
  readonly work: GenerationWork;
  /** Milliseconds until the answer is worth nothing; undefined without a deadline. */
  readonly remainingMs?: number | undefined;
}

/** Where a waiting request stands. */
export interface QueuePosition {
  /** Requests before this one; 0 is next. It can grow: a caller who has had less goes first. */
  readonly position: number;
  /** Estimated milliseconds until its turn; 0 while no generation has been timed yet. */
  readonly estimatedWaitMs: number;
}

/** A request's slot, from its admission until it is released. */
export interface Slot {
  /**
   * Resolves when the engine is free for this request. Call it once.
   *
   * @param onPosition called with the position, and again whenever it changes: soon after, once for all changes of a moment.
   * @throws the signal's reason when it is aborted first, and {@link EvictedError} when the slot went to another caller. Release the slot
   * then too.
   */
  turn(signal: AbortSignal, onPosition?: (position: QueuePosition) => void): Promise<void>;
  /** Where it stands now. */
  position(): QueuePosition;
  /** Whether the image alone, from now on, takes clearly too long. */
  deadlineMiss(remainingMs: number | undefined): DeadlineMiss | undefined;
  /**
   * Gives the slot up, waiting or running. May be called again without harm. `generated` is given where there is an image: only those
   * count for the estimates, because a request that was cancelled or rejected says nothing about how long one takes.
   */
  release(generated?: Pick<GenerationTimings, "denoisingMs" | "vaeDecodeMs">): void;
}

export type AdmissionResult =
  | { readonly kind: "admitted"; readonly slot: Slot }
  /** No room: `retryAfterMs` is when those who are here will be done, estimated; 0 when nothing is known. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  | ({ readonly kind: "too-late" } & DeadlineMiss)
  /** It is paused. */
  | { readonly kind: "paused" };

/** Another caller, with fewer requests waiting, got this slot of a full queue. */
export class EvictedError extends Error {
  override readonly name = "EvictedError";
  /** As for a full queue. */
  readonly retryAfterMs: number;

  constructor(retryAfterMs: number) {
    super("the slot went to another caller");
    this.retryAfterMs = retryAfterMs;
  }
}

/** Admission to one engine: one request runs, a bounded number waits, the rest is rejected at once. */
export interface Admission {
  /**
   * Admits a request, or says why not.
   *
   * Turns are fair across callers: see {@link FairQueue}. So are the slots: one caller may use them all while nobody else comes, but when
   * another one does, the newest request of the caller who has most waiting is evicted, until no caller has more than one slot more than
   * another who was rejected.
   *
   * A request that will clearly be too late is rejected: see {@link deadlineMiss}. It is not checked again while it waits, where the estimate
   * grows and shrinks with those who come and leave; at its turn {@link Slot.deadlineMiss} says whether to begin at all.
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
  readonly work: GenerationWork;
  /** Checks whether the wait is over. */
  check: () => void;
  /** Where the position is reported; undefined where nobody wants to know. */
  onPosition: ((position: QueuePosition) => void) | undefined;
  /** The position that was reported last. */
  reported: number;
  evicted: EvictedError | undefined;
}

/** @throws Error when `maxWaiting` is not a whole number of at least 0. */
export function createAdmission(options: AdmissionOptions = {}): Admission {
  const { maxWaiting = defaultMaxWaiting, now = () => performance.now() } = options;
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0) {
    throw new Error(`maxWaiting must be a whole number of at least 0, got ${maxWaiting}`);
  }
  const estimate = createGenerationEstimate(now);
  const queue = createFairQueue<Entry>();
  // Invariant: `running` is set if and only if a slot was given the turn and has not been released.
  let running: { readonly entry: Entry; readonly since: number } | undefined;
  let paused = false;
  /** Position and the work before it, of those who wait; made when it is first asked for after a change. */
  let standings: ReadonlyMap<Entry, { readonly position: number; readonly beforeMs: number }> | undefined;

  const currentMs = (): number =>
    running === undefined ? 0 : Math.max(0, estimate.of(running.entry.work) - (now() - running.since));

  const positionOf = (entry: Entry): QueuePosition => {
    if (standings === undefined) {
      let beforeMs = 0;
      standings = new Map(
        queue.order().map((each, position) => {
          const standing = { position, beforeMs };
          beforeMs += estimate.of(each.work);
          return [each, standing];
        }),
      );
    }
    const { position = 0, beforeMs = 0 } = standings.get(entry) ?? {};
    return { position, estimatedWaitMs: currentMs() + beforeMs };
  };

  const allDoneMs = (): number => {
    let sum = currentMs();
    for (const { work } of queue.items()) {
      sum += estimate.of(work);
    }
    return sum;
  };

  const reports = createPositionReports<Entry>((entry) => {
    const position = positionOf(entry);
    if (position.position !== entry.reported) {
      entry.reported = position.position;
      entry.onPosition?.(position);
    }
  });

  /** After every change of who is here: gives the turn, where the engine is free. */
  const advance = (): void => {
    standings = undefined;
    if (running === undefined && !paused) {
      const entry = queue.shift();
      if (entry !== undefined) {
        running = { entry, since: now() };
        entry.check();
      }
    }
    reports.changed();
  };

  const release = (entry: Entry, generated: Parameters<Slot["release"]>[0]): void => {
    if (running?.entry === entry) {
      const totalMs = now() - running.since;
      if (generated !== undefined) {
        estimate.learn(entry.work, { ...generated, totalMs });
      }
      running = undefined;
      queue.charge(totalMs);
    } else {
      queue.remove(entry);
    }
    advance();
  };

  const turn = (entry: Entry, signal: AbortSignal, onPosition: Entry["onPosition"]): Promise<void> =>
    new Promise((resolve, reject) => {
      const settle = (how: () => void): void => {
        entry.check = () => {};
        reports.leave(entry);
        signal.removeEventListener("abort", check);
        how();
      };
      const check = (): void => {
        if (signal.aborted) {
          settle(() => reject(signal.reason));
        } else if (entry.evicted !== undefined) {
          const { evicted } = entry;
          settle(() => reject(evicted));
        } else if (running?.entry === entry) {
          settle(resolve);
        }
      };
      entry.check = check;
      entry.onPosition = onPosition;
      signal.addEventListener("abort", check);
      if (onPosition !== undefined) {
        reports.join(entry);
      }
      check();
    });

  return {
    enter({ caller, work, remainingMs }): AdmissionResult {
      if (paused) {
        return { kind: "paused" };
      }
      const entry: Entry = {
        caller,
        work,
        // While nothing is known all cost the same, so that the order is one request of each caller in turn.
        cost: () => estimate.of(work) || 1,
        check: () => {},
        onPosition: undefined,
        reported: -1,
        evicted: undefined,
      };
      queue.push(entry);
      standings = undefined;
      const surplus = running !== undefined && queue.size > maxWaiting ? queue.newestOfLongest() : undefined;
      const late =
        remainingMs === undefined
          ? undefined
          : deadlineMiss(estimate, { work, waitMs: positionOf(entry).estimatedWaitMs, remainingMs });
      if (surplus === entry || late !== undefined) {
        queue.remove(entry);
        standings = undefined;
        return late === undefined ? { kind: "full", retryAfterMs: allDoneMs() } : { kind: "too-late", ...late };
      }
      if (surplus !== undefined) {
        queue.remove(surplus);
        surplus.evicted = new EvictedError(allDoneMs() - estimate.of(work) + estimate.of(surplus.work));
        surplus.check();
      }
      advance();
      return {
        kind: "admitted",
        slot: {
          turn: (signal, onPosition) => turn(entry, signal, onPosition),
          position: () => positionOf(entry),
          deadlineMiss: (remaining) => deadlineMiss(estimate, { work, waitMs: 0, remainingMs: remaining }),
          release: (generated) => release(entry, generated),
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

/**
 * Admits a request, or rejects it.
 *
 * @throws ConnectError RESOURCE_EXHAUSTED where there is no room, or too many are before it for its deadline; DEADLINE_EXCEEDED where even
 * generation alone would be too late; UNAVAILABLE while the engine is away.
 */
export function admit(request: AdmissionRequest, admission: Admission): Slot {
  const result = admission.enter(request);
  switch (result.kind) {
    case "admitted":
      return result.slot;
    case "full":
      throw queueFull("all places of this worker are taken", result.retryAfterMs);
    case "too-late":
      throw deadlineMissError(result);
    case "paused":
      throw unavailable("the worker is not ready: its engine is being restarted");
  }
}
