import type { Generation } from "./waiting-engine.js";

/** Calls that wait at a worker, behind the one that it generates, while another worker has none: more is unfair. */
const longestQueue = 1;

/**
 * Milliseconds between two points of time in which a worker had nothing to do while another had a queue of two or more.
 *
 * @param calledAt when each call was made, by its seed.
 */
export function unfairTime(
  generations: readonly Generation[],
  calledAt: ReadonlyMap<number, number>,
  workers: number,
  from: number,
  to: number,
): number {
  const changes = generations.flatMap(({ seed, worker, startedAt, endedAt }) => [
    { at: calledAt.get(seed) ?? startedAt, worker, waiting: 1, there: 1 },
    { at: startedAt, worker, waiting: -1, there: 0 },
    { at: endedAt, worker, waiting: 0, there: -1 },
  ]);
  changes.sort((a, b) => a.at - b.at);
  const state = Array.from({ length: workers }, () => ({ waiting: 0, there: 0 }));
  let unfairMs = 0;
  let since = from;
  for (const { at, worker, waiting, there } of changes) {
    const idle = state.some((each) => each.there === 0);
    if (idle && state.some((each) => each.waiting > longestQueue)) {
      unfairMs += Math.max(0, Math.min(at, to) - since);
    }
    since = Math.max(at, from);
    const changed = state[worker];
    if (changed !== undefined) {
      changed.waiting += waiting;
      changed.there += there;
    }
  }
  return unfairMs;
}
