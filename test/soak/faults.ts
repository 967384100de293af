import { setTimeout as delay } from "node:timers/promises";
import { type System, workerCount } from "./system.js";

/** A worker's death, by `performance.now()`. */
export interface Kill {
  readonly at: number;
}

/** What is done to the system, one after the other and again. */
const kinds = ["kill", "drain", "add", "database", "collector"] as const;
export type FaultKind = (typeof kinds)[number];

/** Pauses of an operator, in milliseconds: until a killed worker is back, an added one is taken off, the collector is back. */
const [backAfterMs, addedForMs, forgottenAfterMs, awayForMs] = [3_000, 20_000, 10_000, 15_000];

/** Runs faults until it is stopped, one at a time, with a pause after each. The last worker is left alone. */
export function startFaults(system: System, pauseMs: number, onFault: (text: string) => void) {
  const kills: Kill[] = [];
  const counts = new Map<FaultKind, number>();
  const stop = new AbortController();
  let victim = 0;

  const run: Readonly<Record<FaultKind, () => Promise<void>>> = {
    async kill() {
      const index = victim++ % (workerCount - 1);
      kills.push({ at: await system.killWorker(index) });
      await delay(backAfterMs);
      await system.restartWorker(index);
    },
    async drain() {
      const index = victim++ % (workerCount - 1);
      await system.drainWorker(index);
      await delay(backAfterMs);
      await system.restartWorker(index);
    },
    async add() {
      await system.addWorker();
      await delay(addedForMs);
      await system.forgetAddedWorker();
      // The pipelines read their file every 5 s.
      await delay(forgottenAfterMs);
      await system.drainAddedWorker();
    },
    database: () => system.restartDatabase(),
    async collector() {
      await system.stopCollector();
      await delay(awayForMs);
      await system.restartCollector();
    },
  };

  const ended = (async () => {
    // Each comes once, also in a short run.
    for (let index = 0; index < kinds.length || !stop.signal.aborted; index++) {
      const kind = kinds[index % kinds.length] ?? "kill";
      const startedAt = performance.now();
      await run[kind]();
      counts.set(kind, (counts.get(kind) ?? 0) + 1);
      onFault(`${kind}: ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
      await delay(pauseMs, undefined, { signal: stop.signal }).catch(() => {});
    }
  })();
  // The end of the run hears of it.
  ended.catch(() => {});

  return {
    kills,
    counts,
    /** Finishes the running fault. @throws what went wrong in one. */
    async stop(): Promise<void> {
      stop.abort();
      await ended;
    },
  };
}
