import { setTimeout as delay } from "node:timers/promises";
import type { PoliciesInput } from "../../src/mesh/grpc/policies.js";
import { startFleet } from "../../test/support/fleet.js";
import { unfairTime } from "./unfair-time.js";
import { createWaitingEngine, type Generation } from "./waiting-engine.js";

/** Options of {@link runBalance}. */
export interface BalanceOptions {
  /** Images that each worker generates in `unitMs`. */
  readonly speeds: readonly number[];
  /** Time that a worker of speed 1 needs for an image, in milliseconds. */
  readonly unitMs: number;
  readonly pipelines: number;
  /** Clients of each pipeline; each calls again as soon as it has its image. */
  readonly clients: number;
  readonly rounds: number;
  /** Length of a round, in milliseconds. */
  readonly roundMs: number;
  readonly policies?: PoliciesInput;
  /** Requests that may wait at each worker. @default the worker's own */
  readonly maxWaiting?: number;
}

/** What one round came to. */
export interface BalanceRound {
  /** Images that were finished, by worker. */
  readonly images: readonly number[];
  /** Work that was done, as a share of what the workers can do together: their measured generations without a pause between them. */
  readonly share: number;
  /** Share of the time in which a worker had nothing to do while another had a queue of two. */
  readonly unfair: number;
  /** Requests that failed. */
  readonly failures: number;
}

/** Runs pipelines and workers that only wait on ports of the loopback, under the same number of calls all the time. */
export async function runBalance(options: BalanceOptions): Promise<BalanceRound[]> {
  const { speeds, unitMs, rounds, roundMs, policies, maxWaiting } = options;
  const generations: Generation[] = [];
  const calledAt = new Map<number, number>();
  const ends: (() => unknown)[] = [];
  const { clients } = await startFleet(
    { after: (end) => ends.push(end), diagnostic() {} },
    {
      engines: speeds.map((speed, worker) =>
        createWaitingEngine(worker, unitMs / speed, (done) => generations.push(done)),
      ),
      pipelines: options.pipelines,
      ...(maxWaiting !== undefined && { maxWaiting }),
      ...(policies && { policies }),
    },
  );
  const failedAt: number[] = [];
  let seed = 0;
  let over = false;
  const client = async (pipeline: (typeof clients)[number]): Promise<void> => {
    while (!over) {
      seed++;
      calledAt.set(seed, performance.now());
      try {
        await pipeline.generate({ prompt: "a", options: { seed, numInferenceSteps: 1 } });
      } catch {
        failedAt.push(performance.now());
      }
    }
  };
  // Every service makes its connections and validators with its first call.
  const first = { prompt: "a", options: { numInferenceSteps: 1 } };
  await Promise.all(clients.flatMap((pipeline) => speeds.map(() => pipeline.generate(first))));
  generations.length = 0;
  const running = clients.flatMap((pipeline) => Array.from({ length: options.clients }, () => client(pipeline)));
  const bounds = [performance.now()];
  for (let round = 0; round < rounds; round++) {
    await delay(roundMs);
    bounds.push(performance.now());
  }
  over = true;
  await Promise.all(running);
  for (const end of ends) {
    await end();
  }

  /** Images that a worker could have finished in a time: its measured generations without a pause between them. */
  const possible = (worker: number, ms: number): number => {
    const own = generations.filter((each) => each.worker === worker);
    const spentMs = own.reduce((sum, { startedAt, endedAt }) => sum + endedAt - startedAt, 0);
    return own.length === 0 ? (ms / unitMs) * (speeds[worker] ?? 0) : ms / (spentMs / own.length);
  };

  return bounds.slice(1).map((to, round) => {
    const from = bounds[round] ?? to;
    const within = generations.filter(({ startedAt, endedAt }) => endedAt > from && startedAt < to);
    const done = within.reduce((sum, { startedAt, endedAt }) => {
      return sum + (Math.min(endedAt, to) - Math.max(startedAt, from)) / (endedAt - startedAt);
    }, 0);
    return {
      images: speeds.map((_, worker) => within.filter((each) => each.worker === worker && each.endedAt <= to).length),
      share: done / speeds.reduce((sum, _, worker) => sum + possible(worker, to - from), 0),
      unfair: unfairTime(generations, calledAt, speeds.length, from, to) / (to - from),
      failures: failedAt.filter((at) => at >= from && at < to).length,
    };
  });
}
