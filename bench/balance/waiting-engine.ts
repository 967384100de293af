import { setTimeout as delay } from "node:timers/promises";
import { createFakeEngine, type FakeEngine } from "../../src/testing/fake-engine.js";

/** One generation on one worker, with times in milliseconds of performance.now. */
export interface Generation {
  readonly seed: number;
  readonly worker: number;
  readonly startedAt: number;
  readonly endedAt: number;
}

/** An engine that only waits: each step takes so long. Ask for one step, and with a seed of its own. */
export function createWaitingEngine(
  worker: number,
  stepMs: number,
  onGenerated: (generation: Generation) => void,
): FakeEngine {
  return createFakeEngine({
    async beforeStep(_step, { seed }, signal) {
      const startedAt = performance.now();
      await delay(stepMs, undefined, { signal });
      onGenerated({ seed, worker, startedAt, endedAt: performance.now() });
    },
  });
}
