import { queueFull, retryDelayMsOf, unavailable } from "../errors/errors.js";
import { type AddressWatch, type GrpcAddress, watchAddresses } from "../grpc/grpc-addresses.js";
import type { Connections } from "../grpc/grpc-connections.js";
import { CallFailure } from "../grpc/grpc-status.js";
import type { Policies } from "../grpc/policies.js";
import { createReplica, type Replica } from "./replica.js";
import { createChoice } from "./replica-choice.js";

/** Options of {@link createBalancer}. */
export interface BalancerOptions {
  /** Name of the app in errors, such as `local/text-to-image-worker`. */
  readonly appId: string;
  /** gRPC target of all its replicas. */
  readonly target: string;
  readonly policies: Policies;
  /** Makes the connections to one address of the target. */
  readonly connect: (address: GrpcAddress) => Connections;
}

/** What one call has learned of the replicas. */
export interface CallHistory {
  /** Those on which it has failed: it goes back to one only when there is no other. */
  readonly tried: ReadonlySet<Replica>;
  /** Those that had no room for it, with their answers: it does not go back to them. */
  readonly full: ReadonlyMap<Replica, CallFailure>;
}

/** Finds replicas for the calls of one app. */
export interface Balancer {
  /** Begins to connect, the first time. @param service full name of the service whose health is watched. */
  open(service: string): void;
  /**
   * The replica for a call: one that is healthy, has not rejected it and is not ejected. Undefined while none is known to be healthy but one
   * may still be connecting: try again after the next change.
   *
   * @param waits whether to wait, too, while none can be reached.
   * @throws CallFailure RESOURCE_EXHAUSTED with the smallest estimate where all that can be reached are full; UNAVAILABLE, saying how many
   *   are down or draining, where none can be reached.
   */
  choose(history: CallHistory, waits?: boolean): Replica | undefined;
  /** Calls back once, at the next change. Returns how to cancel that. */
  onNextChange(listener: () => void): () => void;
  /** Whether the replicas have reported, or it is known that there are none to wait for. */
  isSettled(): boolean;
  /** Replicas that are known now, in the order of the address list. */
  readonly replicas: readonly Replica[];
  /** Ends all connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Time for the other replicas to report when the first one is ready, in milliseconds. */
const settleMs = 500;

/** @throws Error where the target cannot be parsed. */
export function createBalancer({ appId, target, policies, connect }: BalancerOptions): Balancer {
  const prefer = createChoice(policies.loadBalancing);
  let waiting = new Set<() => void>();
  let replicas: readonly Replica[] = [];
  let addresses: AddressWatch | undefined;
  /** `unknown` until the resolver has answered for the first time. */
  let names: "unknown" | "found" | "failed" = "unknown";
  let closed = false;
  /** Until the first replicas have all reported, or for a moment after the first of them is ready: it would get the calls of all. */
  let settled = false;
  let settling: NodeJS.Timeout | undefined;

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
    addresses ??= watchAddresses(
      { target, everyMs: policies.reconnect.resolveEveryMs },
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
      },
    });

  /** Those of the best kind that there are: not yet tried before tried, and ejected ones only where too many would be left out. */
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
    const loss = describeLoss(replicas, names === "failed");
    const error = unavailable(`no replica of ${appId} can be reached: ${loss}`, undefined, "NO_REPLICA");
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
    get replicas() {
      return replicas;
    },
    close() {
      closed = true;
      clearTimeout(settling);
      addresses?.stop();
      for (const replica of replicas) {
        replica.close();
      }
      replicas = [];
      wakeAll();
    },
  };
}

/** The answer of the one that has room first, for all. One replica alone is quoted as it is. */
function allFull(appId: string, rejections: readonly CallFailure[]): CallFailure {
  const delayOf = ({ error }: CallFailure) => retryDelayMsOf(error) ?? 0;
  const [soonest] = rejections.toSorted((one, other) => delayOf(one) - delayOf(other));
  if (soonest === undefined) {
    return new CallFailure(unavailable(`no replica of ${appId} takes the call`), "local");
  }
  if (rejections.length === 1) {
    return soonest;
  }
  const message = `all ${rejections.length} replicas of ${appId} are full; the first to have room says: ${soonest.error.rawMessage}`;
  return new CallFailure(queueFull(message, delayOf(soonest)), "server");
}

function describeLoss(replicas: readonly Replica[], unresolved: boolean): string {
  if (replicas.length === 0) {
    return unresolved ? "its name cannot be resolved" : "its name has no addresses";
  }
  const down = replicas.filter(({ health }) => health === "down").length;
  const rejecting = replicas.length - down;
  const verb = (count: number) => `${count} ${count === 1 ? "is" : "are"}`;
  return [
    ...(down > 0 ? [`${verb(down)} down`] : []),
    ...(rejecting > 0 ? [`${verb(rejecting)} draining or not ready`] : []),
  ].join(", ");
}
