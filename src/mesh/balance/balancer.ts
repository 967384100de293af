import { queueFull, retryDelayMsOf, unavailable } from "../errors/errors.js";
import type { AddressWatch, GrpcAddress } from "../grpc/grpc-addresses.js";
import type { Connections } from "../grpc/grpc-connections.js";
import { CallFailure } from "../grpc/grpc-status.js";
import type { Policies } from "../grpc/policies.js";
import { isRegistryTarget, type RegisteredReplicas } from "../grpc/registered-replicas.js";
import { watchReplicas } from "../grpc/watch-replicas.js";
import { createReplica, type Replica } from "./replica.js";
import { createChoice } from "./replica-choice.js";

/** Options of {@link createBalancer}. */
export interface BalancerOptions {
  /** App id for error messages, such as `local/text-to-image-worker`. */
  readonly appId: string;
  /** gRPC target of its replicas. */
  readonly target: string;
  /** Replicas besides those of the target. @default none */
  readonly registered?: RegisteredReplicas | undefined;
  readonly policies: Policies;
  /** Creates the connections to one address of the target. */
  readonly connect: (address: GrpcAddress) => Connections;
}

/** Results of a call's previous attempts, by replica. */
export interface CallHistory {
  /** Replicas on which the call failed. They are chosen again only when no other is left. */
  readonly tried: ReadonlySet<Replica>;
  /** Replicas that rejected the call as full, with their errors. They are not chosen again. */
  readonly full: ReadonlyMap<Replica, CallFailure>;
}

/** Chooser of replicas for the calls of one app. */
export interface Balancer {
  /** Starts connecting, on the first call only. @param service full name of the service whose health is watched. */
  open(service: string): void;
  /**
   * Chooses a healthy replica that has not rejected the call and is not ejected. Returns undefined while replicas are still connecting and
   * none is healthy yet: call again after the next change.
   *
   * @param waits whether to return undefined, instead of throwing, while no replica is reachable.
   * @throws CallFailure RESOURCE_EXHAUSTED with the smallest retry delay if all reachable replicas are full; UNAVAILABLE with the number of
   *   replicas that are down or draining if none is reachable.
   */
  choose(history: CallHistory, waits?: boolean): Replica | undefined;
  /** Calls back once, at the next change. Returns a function that cancels it. */
  onNextChange(listener: () => void): () => void;
  /** Whether all replicas have reported their health, or there are none to wait for. */
  isSettled(): boolean;
  /** Current replicas, in the order of the address list. */
  readonly replicas: readonly Replica[];
  /** Calls back whenever a replica becomes healthy. */
  onServing(listener: () => void): void;
  /** Closes all connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Interval of the resolutions while no replica serves, in milliseconds: jobs wait for an app's first replica. */
const resolveWithoutReplicaMs = 2_000;
/** Time to wait for other replicas once the first one is ready, in milliseconds. */
const settleMs = 500;

/** @throws Error if the target cannot be parsed. */
export function createBalancer({ appId, target, registered, policies, connect }: BalancerOptions): Balancer {
  const prefer = createChoice(policies.loadBalancing);
  let waiting = new Set<() => void>();
  const servingListeners: (() => void)[] = [];
  let replicas: readonly Replica[] = [];
  let addresses: AddressWatch | undefined;
  /** `unknown` until the resolver has answered for the first time. */
  let names: "unknown" | "found" | "failed" = "unknown";
  let closed = false;
  /** True once the first replicas have reported, or `settleMs` after the first is ready. Before, that one would get every call. */
  let settled = false;
  let settling: NodeJS.Timeout | undefined;
  let lookingForOne: NodeJS.Timeout | undefined;

  const changed = (): void => {
    if (!settled && replicas.some(({ health }) => health === "serving")) {
      settling ??= setTimeout(settle, settleMs);
    }
    if (replicas.length > 0 && replicas.every(({ health }) => health !== "connecting")) {
      settle();
    }
    wakeAll();
  };

  const settle = (): void => {
    clearTimeout(settling);
    settled = true;
    wakeAll();
  };

  const wakeAll = (): void => {
    const woken = waiting;
    waiting = new Set();
    for (const wake of woken) {
      wake();
    }
  };

  const open = (service: string): void => {
    if (closed) {
      return;
    }
    lookingForOne ??= setInterval(() => {
      if (!replicas.some(({ health }) => health === "serving")) {
        addresses?.refresh();
      }
    }, resolveWithoutReplicaMs).unref();
    addresses ??= watchReplicas(
      { target, registered, everyMs: policies.reconnect.resolveEveryMs },
      {
        onAddresses(found) {
          const known = new Map(replicas.map((replica) => [replica.address.name, replica]));
          replicas = found.map((address) => known.get(address.name) ?? replicaAt(address, service));
          for (const gone of known.values()) {
            if (!replicas.includes(gone)) {
              gone.close();
            }
          }
          names = "found";
          changed();
        },
        onFailure() {
          names = names === "found" ? "found" : "failed";
          changed();
        },
      },
    );
  };

  const replicaAt = (address: GrpcAddress, service: string): Replica =>
    createReplica({
      address,
      connections: connect(address),
      service,
      policies,
      onChange(health) {
        if (health === "down") {
          addresses?.refresh();
        }
        changed();
        if (health === "serving") {
          for (const notify of servingListeners) {
            notify();
          }
        }
      },
    });

  /** Filters candidates: untried before tried; ejected ones only if too many would be left out. */
  const preferred = (free: readonly Replica[], tried: CallHistory["tried"]): readonly Replica[] => {
    const ejected = replicas.filter(({ outliers }) => outliers.ejected);
    const mayEject = ejected.length <= (replicas.length * policies.outlierDetection.maxEjectionPercent) / 100;
    const healthy = mayEject ? free.filter((replica) => !ejected.includes(replica)) : free;
    const kinds = [
      healthy.filter((replica) => !tried.has(replica)),
      free.filter((replica) => !tried.has(replica)),
      healthy,
    ];
    return kinds.find((kind) => kind.length > 0) ?? free;
  };

  const isSettled = (): boolean =>
    closed ||
    (names !== "unknown" &&
      (settled || replicas.length === 0) &&
      replicas.every(({ health }) => health !== "connecting"));

  const choose = ({ tried, full }: CallHistory, waits = false): Replica | undefined => {
    if (closed) {
      throw new CallFailure(unavailable("the channel is closed"), "local");
    }
    const serving = replicas.filter(({ health }) => health === "serving");
    const free = full.size === 0 ? serving : serving.filter((replica) => !full.has(replica));
    const chosen = settled ? prefer(preferred(free, tried)) : undefined;
    if (chosen !== undefined || !isSettled()) {
      return chosen;
    }
    if (serving.length > 0) {
      throw allFull(
        appId,
        [...full].filter(([replica]) => serving.includes(replica)).map(([, failure]) => failure),
      );
    }
    if (waits) {
      return undefined;
    }
    const loss = describeLoss(replicas, isRegistryTarget(target) ? "registry" : names);
    const error = unavailable(`no replica of ${appId} is reachable: ${loss}`, undefined, "NO_REPLICA");
    throw new CallFailure(error, "unreachable");
  };

  return {
    open,
    choose,
    onNextChange(listener) {
      waiting.add(listener);
      return () => void waiting.delete(listener);
    },
    isSettled,
    onServing: (listener) => void servingListeners.push(listener),
    get replicas() {
      return replicas;
    },
    close() {
      closed = true;
      clearTimeout(settling);
      clearInterval(lookingForOne);
      addresses?.stop();
      for (const replica of replicas) {
        replica.close();
      }
      replicas = [];
      wakeAll();
    },
  };
}

/** Combine rejections: the smallest retry delay wins. A single rejection is returned unchanged. */
function allFull(appId: string, rejections: readonly CallFailure[]): CallFailure {
  const delayOf = ({ error }: CallFailure) => retryDelayMsOf(error) ?? 0;
  const [soonest] = rejections.toSorted((one, other) => delayOf(one) - delayOf(other));
  if (soonest === undefined) {
    return new CallFailure(unavailable(`no replica of ${appId} accepts the call`), "local");
  }
  if (rejections.length === 1) {
    return soonest;
  }
  const message = `all ${rejections.length} replicas of ${appId} are full; the one with the shortest delay returned: ${soonest.error.rawMessage}`;
  return new CallFailure(queueFull(message, delayOf(soonest)), "server");
}

const noReplicas = {
  registry: "no worker is registered",
  failed: "the target's name cannot be resolved",
  found: "the target's name has no addresses",
  unknown: "the target's name has no addresses",
} as const;

function describeLoss(replicas: readonly Replica[], source: keyof typeof noReplicas): string {
  if (replicas.length === 0) {
    return noReplicas[source];
  }
  const down = replicas.filter(({ health }) => health === "down").length;
  const notServing = replicas.length - down;
  const verb = (count: number) => `${count} ${count === 1 ? "is" : "are"}`;
  return [
    ...(down > 0 ? [`${verb(down)} down`] : []),
    ...(notServing > 0 ? [`${verb(notServing)} draining or not ready`] : []),
  ].join(", ");
}
