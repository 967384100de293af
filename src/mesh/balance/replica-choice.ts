import type { Policies } from "../grpc/policies.js";
import type { ReplicaLoad } from "./replica-load.js";

/** Properties by which a replica is chosen. */
interface Candidate {
  readonly load: ReplicaLoad;
  /** Milliseconds until the replica expects a free slot; 0 if it has not rejected a call. */
  readonly rejectsForMs: number;
}

/** Choose a worker; undefined for an empty list. A full one is chosen only if all are full. */
export type ChooseReplica = <W extends Candidate>(workers: readonly W[]) => W | undefined;

/**
 * Create the chooser of a load-balancing policy. Workers come in the order of the address list.
 *
 * @param random returns 0 to 1, 1 excluded: the start of the rotation, so that clients which start together do not all choose the same worker.
 */
export function createChoice(policy: Policies["loadBalancing"], random: () => number = Math.random): ChooseReplica {
  switch (policy) {
    case "pick_first":
      return (workers) => available(workers)[0];
    case "round_robin": {
      const rotate = createRotation(random);
      return (workers) => rotate(available(workers));
    }
    case "least_wait":
      return createLeastWait(random);
  }
}

/** Workers that have not rejected a call lately, or all if there are none. */
function available<W extends Candidate>(workers: readonly W[]): readonly W[] {
  const open = workers.filter(({ rejectsForMs }) => rejectsForMs === 0);
  return open.length === 0 ? workers : open;
}

function createRotation(random: () => number): ChooseReplica {
  let next = Math.floor(random() * 1_000_000);
  return (workers) => workers[next++ % Math.max(1, workers.length)];
}

/**
 * Choose the worker with the shortest expected delay; then the fastest; then in rotation. A worker without a measured service time gets the
 * average of the others.
 */
function createLeastWait(random: () => number): ChooseReplica {
  const rotate = createRotation(random);
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
    return rotate(soonest.filter((each) => each.serviceMs === serviceMs).map((each) => each.worker));
  };
}

/** Map NaN to infinity: NaN equals nothing, so no worker would be chosen. */
function comparable(ms: number): number {
  return Number.isNaN(ms) ? Number.POSITIVE_INFINITY : ms;
}
