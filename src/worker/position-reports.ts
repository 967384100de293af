/** Minimum time between two rounds of reports, in milliseconds; longer with more waiters: one millisecond each. */
const roundEveryMs = 250;
/** Reports in one iteration of the event loop. */
const perTurn = 20;

/** Scheduler of position reports. */
export interface PositionReports<Waiter> {
  /** Adds a waiter and reports to it soon. */
  add(waiter: Waiter): void;
  remove(waiter: Waiter): void;
  /** Call it when positions may have changed. */
  changed(): void;
}

/**
 * Create a scheduler that keeps reports to many waiters cheap. A new waiter gets its report at once. Changes start rounds of reports:
 * - up to 20 waiters: the first round at once, then one every 250 ms;
 * - more: after as many milliseconds as there are waiters, so that a thousand requests cancelled together cause no reports to each other.
 *
 * Each iteration of the event loop makes a few reports only, so that other work is not delayed.
 *
 * @param report sends the position to a waiter if it has changed.
 */
export function createPositionReports<Waiter>(report: (waiter: Waiter) => void): PositionReports<Waiter> {
  const waiters = new Set<Waiter>();
  const newWaiters: Waiter[] = [];
  let state: "idle" | "waiting" | "reporting" | "reporting-old-updates" = "idle";
  let lastRoundAt = Number.NEGATIVE_INFINITY;

  const reportSome = (list: Waiter[]): void => {
    for (const waiter of list.splice(0, perTurn)) {
      if (waiters.has(waiter)) {
        report(waiter);
      }
    }
  };

  const reportToNew = (): void => {
    reportSome(newWaiters);
    if (newWaiters.length > 0) {
      setImmediate(reportToNew);
    }
  };

  const startRound = (): void => {
    lastRoundAt = performance.now();
    state = "reporting";
    reportRound([...waiters]);
  };

  const reportRound = (rest: Waiter[]): void => {
    reportSome(rest);
    if (rest.length > 0) {
      setImmediate(reportRound, rest);
      return;
    }
    const isOld = state === "reporting-old-updates";
    state = "idle";
    if (isOld) {
      changed();
    }
  };

  const changed = (): void => {
    if (state === "reporting") {
      state = "reporting-old-updates";
    }
    if (state !== "idle" || waiters.size === 0) {
      return;
    }
    state = "waiting";
    const sinceLastMs = performance.now() - lastRoundAt;
    const firstMs = waiters.size > perTurn ? waiters.size : 0;
    const waitMs = Math.max(firstMs, Math.max(roundEveryMs, waiters.size) - sinceLastMs);
    if (waitMs > 0) {
      setTimeout(startRound, waitMs);
    } else {
      setImmediate(startRound);
    }
  };

  return {
    add(waiter) {
      waiters.add(waiter);
      newWaiters.push(waiter);
      if (newWaiters.length === 1) {
        setImmediate(reportToNew);
      }
    },
    remove: (waiter) => void waiters.delete(waiter),
    changed,
  };
}
