import type { GenerationTimings } from "../engine/engine.js";
import { type DeadlineMiss, deadlineMiss } from "./deadline-check.js";
import { createFairQueue, type FairItem } from "./fair-queue.js";
import { createGenerationEstimate, type GenerationWork } from "./generation-estimate.js";
import { createPositionReports } from "./position-reports.js";

/** Options of {@link createAdmission}. */
export interface AdmissionOptions {
  /** Maximum requests in the queue, besides the running one; 0: no queue. @default {@link defaultMaxWaiting} */
  readonly maxWaiting?: number | undefined;
  /** Monotonic clock, in milliseconds. @default performance.now */
  readonly now?: (() => number) | undefined;
}

/** Request for a slot. */
export interface AdmissionRequest {
  /** Fairness key of the caller. */
  readonly caller: string;
  readonly work: GenerationWork;
  /** Time until the deadline, in milliseconds; undefined without one. */
  readonly remainingMs?: number | undefined;
}

/** Position of a waiting request. */
export interface QueuePosition {
  /** Requests before this one; 0 is next. It can grow, because callers with less usage go first. */
  readonly position: number;
  /** Estimated wait, in milliseconds; 0 before the first measured generation. */
  readonly estimatedWaitMs: number;
}

/** Slot of an admitted request, until it is released. */
export interface Slot {
  /**
   * Waits until the engine is free for this request. Call it once, and release the slot also if it rejects.
   *
   * @param onPosition called with the position and its changes, debounced.
   * @throws the signal's reason if it is aborted first; {@link AdmissionError} if the slot went to another caller.
   */
  acquire(signal: AbortSignal, onPosition?: (position: QueuePosition) => void): Promise<void>;
  /** Returns the current position. */
  position(): QueuePosition;
  /** Checks whether the generation alone will clearly exceed the remaining time. */
  deadlineMiss(remainingMs: number | undefined): DeadlineMiss | undefined;
  /**
   * Releases the slot, waiting or running; idempotent. Pass `generated` for a finished image: only these count for the estimates.
   */
  release(generated?: Pick<GenerationTimings, "vaeEncodeMs" | "denoisingMs" | "vaeDecodeMs">): void;
}

/** Rejection of a request. */
export type AdmissionRejection =
  /** The queue is full. `retryAfterMs`: estimated time until all current requests are done; 0 if unknown. */
  | { readonly kind: "full"; readonly retryAfterMs: number }
  /** The slot went to a caller with fewer requests in the full queue. */
  | { readonly kind: "evicted"; readonly retryAfterMs: number }
  /** The deadline will clearly be exceeded. `queuedMs`: time spent in the queue before. */
  | ({ readonly kind: "deadline-miss"; readonly queuedMs?: number } & DeadlineMiss)
  /** The engine is restarting. */
  | { readonly kind: "paused" };

export type AdmissionResult = { readonly kind: "admitted"; readonly slot: Slot } | AdmissionRejection;

/** A request was rejected, at once or after a wait. */
export class AdmissionError extends Error {
  override readonly name = "AdmissionError";
  readonly rejection: AdmissionRejection;

  constructor(rejection: AdmissionRejection) {
    super(`rejected: ${rejection.kind}`);
    this.rejection = rejection;
  }
}

/** Admission to one engine: one request runs, a bounded number waits, all others are rejected at once. */
export interface Admission {
  /**
   * Admits or rejects a request.
   *
   * The order is fair across callers: see {@link FairQueue}. So are the slots: one caller may use all of them, but when another one arrives
   * at a full queue, the newest request of the caller with the most waiting requests is evicted.
   *
   * A request that will clearly exceed its deadline is rejected: see {@link deadlineMiss}. The check is repeated once, by
   * {@link Slot.deadlineMiss}, when the engine is free, because the estimate changes while requests come and go.
   */
  admit(request: AdmissionRequest): AdmissionResult;
  /** While paused, new requests are rejected and waiting ones keep waiting: the engine is restarting. */
  setPaused(paused: boolean): void;
  /** Number of waiting requests. */
  readonly waiting: number;
}

/** Default of `maxWaiting` and of `--max-waiting`. */
export const defaultMaxWaiting = 16;

interface Entry extends FairItem {
  readonly work: GenerationWork;
  /** Ends the wait if the request is running, evicted or aborted. */
  check: () => void;
  /** Listener for the position; undefined without one. */
  onPosition: ((position: QueuePosition) => void) | undefined;
  /** Last reported position. */
  reported: number;
  evicted: AdmissionError | undefined;
}

/** @throws Error if `maxWaiting` is not a whole number of at least 0. */
export function createAdmission(options: AdmissionOptions = {}): Admission {
  const { maxWaiting = defaultMaxWaiting, now = () => performance.now() } = options;
  if (!Number.isSafeInteger(maxWaiting) || maxWaiting < 0) {
    throw new Error(`maxWaiting must be a whole number of at least 0, got ${maxWaiting}`);
  }
  const estimate = createGenerationEstimate(now);
  const queue = createFairQueue<Entry>();
  // Invariant: `running` is set if and only if a slot has the engine and is not released.
  let running: { readonly entry: Entry; readonly since: number } | undefined;
  let paused = false;
  /** Positions and estimated work before them; computed lazily after each change. */
  let positions: ReadonlyMap<Entry, { readonly position: number; readonly beforeMs: number }> | undefined;

  const currentMs = (): number =>
    running === undefined ? 0 : Math.max(0, estimate.of(running.entry.work) - (now() - running.since));

  const positionOf = (entry: Entry): QueuePosition => {
    if (positions === undefined) {
      let beforeMs = 0;
      positions = new Map(
        queue.order().map((each, position) => {
          const current = { position, beforeMs };
          beforeMs += estimate.of(each.work);
          return [each, current];
        }),
      );
    }
    const { position = 0, beforeMs = 0 } = positions.get(entry) ?? {};
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

  /** Starts the next request if the engine is free. Call it after every change. */
  const advance = (): void => {
    positions = undefined;
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
        estimate.record(entry.work, { ...generated, totalMs });
      }
      running = undefined;
      queue.charge(totalMs);
    } else {
      queue.remove(entry);
    }
    advance();
  };

  const acquire = (entry: Entry, signal: AbortSignal, onPosition: Entry["onPosition"]): Promise<void> =>
    new Promise((resolve, reject) => {
      const endWait = (complete: () => void): void => {
        entry.check = () => {};
        reports.remove(entry);
        signal.removeEventListener("abort", check);
        complete();
      };
      const check = (): void => {
        if (signal.aborted) {
          endWait(() => reject(signal.reason));
        } else if (entry.evicted !== undefined) {
          const { evicted } = entry;
          endWait(() => reject(evicted));
        } else if (running?.entry === entry) {
          endWait(resolve);
        }
      };
      entry.check = check;
      entry.onPosition = onPosition;
      signal.addEventListener("abort", check);
      if (onPosition !== undefined) {
        reports.add(entry);
      }
      check();
    });

  return {
    admit({ caller, work, remainingMs }): AdmissionResult {
      if (paused) {
        return { kind: "paused" };
      }
      const entry: Entry = {
        caller,
        work,
        // Without estimates all requests cost the same: callers alternate.
        cost: () => estimate.of(work) || 1,
        check: () => {},
        onPosition: undefined,
        reported: -1,
        evicted: undefined,
      };
      queue.push(entry);
      positions = undefined;
      const surplus = running !== undefined && queue.size > maxWaiting ? queue.newestOfLongest() : undefined;
      const late =
        remainingMs === undefined
          ? undefined
          : deadlineMiss(estimate, { work, waitMs: positionOf(entry).estimatedWaitMs, remainingMs });
      if (surplus === entry || late !== undefined) {
        queue.remove(entry);
        positions = undefined;
        return late === undefined ? { kind: "full", retryAfterMs: allDoneMs() } : { kind: "deadline-miss", ...late };
      }
      if (surplus !== undefined) {
        queue.remove(surplus);
        const retryAfterMs = allDoneMs() - estimate.of(work) + estimate.of(surplus.work);
        surplus.evicted = new AdmissionError({ kind: "evicted", retryAfterMs });
        surplus.check();
      }
      advance();
      return {
        kind: "admitted",
        slot: {
          acquire: (signal, onPosition) => acquire(entry, signal, onPosition),
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
