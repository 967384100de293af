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
 * Makes reports to many waiters cheap: a newcomer gets its report at once; after changes there are rounds of reports, the first at once, and
 * then one every 250 ms, or every second where a thousand wait. Reports are made a few in each turn of the event loop. Each of a thousand requests that are cancelled together would
 * else have all the others told, and nobody would be answered meanwhile.
 *
 * @param report reports to a waiter, where there is anything new.
 */
export function createPositionReports<Waiter>(report: (waiter: Waiter) => void): PositionReports<Waiter> {
  const waiters = new Set<Waiter>();
  const newcomers: Waiter[] = [];
  let state: "idle" | "waiting" | "reporting" | "reporting-old-news" = "idle";
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
    const isOld = state === "reporting-old-news";
    state = "idle";
    if (isOld) {
      changed();
    }
  };

  const changed = (): void => {
    if (state === "reporting") {
      state = "reporting-old-news";
    }
    if (state !== "idle" || waiters.size === 0) {
      return;
    }
    state = "waiting";
    const waitMs = lastRoundAt + Math.max(roundEveryMs, waiters.size) - performance.now();
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
