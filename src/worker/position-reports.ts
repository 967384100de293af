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
 * - more: once nothing has changed for as many milliseconds as there are waiters, and after three times that at the latest, so that a
 *   thousand requests cancelled together cause no reports to each other.
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
  /** Timer of a round that waits for changes to end, and its latest start. */
  let calm: { timer: NodeJS.Timeout; readonly afterMs: number; readonly latestAt: number } | undefined;

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
    calm = undefined;
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
    if (calm !== undefined && performance.now() < calm.latestAt) {
      clearTimeout(calm.timer);
      calm.timer = setTimeout(startRound, calm.afterMs);
    }
    if (state !== "idle" || waiters.size === 0) {
      return;
    }
    state = "waiting";
    const now = performance.now();
    const waitMs = Math.max(roundEveryMs, waiters.size) - (now - lastRoundAt);
    if (waiters.size > perTurn) {
      const afterMs = Math.max(waiters.size, waitMs);
      calm = { timer: setTimeout(startRound, afterMs), afterMs, latestAt: now + 2 * afterMs };
    } else if (waitMs > 0) {
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
