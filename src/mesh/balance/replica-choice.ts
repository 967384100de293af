import type { Policies } from "../grpc/policies.js";
import type { ReplicaLoad } from "./replica-load.js";

/** What is looked at. */
interface Candidate {
  readonly load: ReplicaLoad;
  /** Milliseconds until it thinks that it has room; 0 where it has not rejected a call. */
  readonly rejectsForMs: number;
}

/** Chooses one of some workers; undefined if and only if there is none. One that rejects is chosen when there is none better. */
export type ChooseReplica = <W extends Candidate>(workers: readonly W[]) => W | undefined;

/**
 * The way of choosing that a policy names, for workers in the order of the address list.
 *
 * @param random from 0 to 1, 1 excluded: where turns begin, so that clients which start together do not all ask the same worker.
 */
export function createChoice(policy: Policies["loadBalancing"], random: () => number = Math.random): ChooseReplica {
  switch (policy) {
    case "pick_first":
      return (workers) => willing(workers)[0];
    case "round_robin": {
      const takeTurns = createTurns(random);
      return (workers) => takeTurns(willing(workers));
    }
    case "least_wait":
      return createLeastWait(random);
  }
}

/** Those that do not reject, or all where there are none. */
function willing<W extends Candidate>(workers: readonly W[]): readonly W[] {
  const open = workers.filter(({ rejectsForMs }) => rejectsForMs === 0);
  return open.length === 0 ? workers : open;
}

function createTurns(random: () => number): ChooseReplica {
  let turn = Math.floor(random() * 1_000_000);
  return (workers) => workers[turn++ % Math.max(1, workers.length)];
}

/**
 * The worker that will begin first. Among those that wait alike the fastest wins, and among equals each has its turn. A worker whose speed is
 * not known yet is taken for an average one.
 */
function createLeastWait(random: () => number): ChooseReplica {
  const takeTurns = createTurns(random);
  return (workers) => {
    const known = workers.flatMap(({ load }) => load.serviceMs ?? []);
    const averageMs = known.length === 0 ? 1 : known.reduce((sum, ms) => sum + ms, 0) / known.length;
    const rated = workers.map((worker) => ({
      worker,
      waitMs: comparable(Math.max(worker.load.expectedWaitMs(averageMs), worker.rejectsForMs)),
      serviceMs: comparable(worker.load.serviceMs ?? averageMs),
    }));
    const least = (values: readonly number[]): number => Math.min(...values);
    const waitMs = least(rated.map((each) => each.waitMs));
    const soonest = rated.filter((each) => each.waitMs === waitMs);
    const serviceMs = least(soonest.map((each) => each.serviceMs));
    return takeTurns(soonest.filter((each) => each.serviceMs === serviceMs).map((each) => each.worker));
  };
}

/** NaN equals nothing, itself included: nobody would be chosen. What cannot be reckoned comes last. */
function comparable(ms: number): number {
  return Number.isNaN(ms) ? Number.POSITIVE_INFINITY : ms;
}
