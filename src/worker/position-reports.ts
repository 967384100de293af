/** Least time between two rounds of reports, in milliseconds; and as many milliseconds as there are waiters. */
const roundEveryMs = 250;
/** Reports in one turn of the event loop. */
const perTurn = 20;

/** Reports positions to those who wait. */
export interface PositionReports<Waiter> {
  /** Has the first report made soon. */
  join(waiter: Waiter): void;
  leave(waiter: Waiter): void;
  /** Positions may have changed. */
  changed(): void;
}

/**
 * Makes reports to many waiters cheap. A newcomer gets its report at once. Changes start rounds of reports:
 * - up to 20 waiters: the first round at once, then one every 250 ms;
 * - more: each round as many milliseconds after the change as there are waiters, so that a thousand requests that are cancelled together
 *   are gone before anybody would be told of their going.
 *
 * Reports are made a few in each turn of the event loop, so that others are answered meanwhile.
 *
 * @param report reports to a waiter, where there is anything new.
 */
export function createPositionReports<Waiter>(report: (waiter: Waiter) => void): PositionReports<Waiter> {
  const waiters = new Set<Waiter>();
  const newcomers: Waiter[] = [];
  let state: "idle" | "waiting" | "reporting" | "reporting-old-updates" = "idle";
  let lastRoundAt = Number.NEGATIVE_INFINITY;

  const reportSome = (list: Waiter[]): void => {
    for (const waiter of list.splice(0, perTurn)) {
      if (waiters.has(waiter)) {
        report(waiter);
      }
    }
  };

  const welcome = (): void => {
    reportSome(newcomers);
    if (newcomers.length > 0) {
      setImmediate(welcome);
    }
  };

  const startRound = (): void => {
    lastRoundAt = performance.now();
    state = "reporting";
    goOn([...waiters]);
  };

  const goOn = (rest: Waiter[]): void => {
    reportSome(rest);
    if (rest.length > 0) {
      setImmediate(goOn, rest);
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
    join(waiter) {
      waiters.add(waiter);
      newcomers.push(waiter);
      if (newcomers.length === 1) {
        setImmediate(welcome);
      }
    },
    leave: (waiter) => void waiters.delete(waiter),
    changed,
  };
}
