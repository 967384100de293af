import type { ConnectError } from "@connectrpc/connect";
import { queueFull, unavailable } from "../errors/errors.js";
import type { Connection } from "../grpc/connection.js";
import { type AddressWatch, type GrpcAddress, watchAddresses } from "../grpc/grpc-addresses.js";
import type { Policies } from "../grpc/policies.js";
import { type BalancedWorker, createBalancedWorker } from "./balanced-worker.js";
import { createChoice } from "./balancing-choice.js";

/** Options of {@link createBalancer}. */
export interface BalancerOptions {
  /** Name of the app in errors, such as `local/text-to-image-worker`. */
  readonly appId: string;
  /** gRPC target of all its workers. */
  readonly target: string;
  readonly policies: Policies;
  /** Makes the connection to one address of the target. */
  readonly connect: (address: GrpcAddress) => Connection;
}

/** How a worker without room refused a call. */
export interface Refusal {
  readonly retryAfterMs: number;
  /** In the worker's own words, which are written for callers. */
  readonly reason: string;
}

/** What one call has learned of the workers it was made on. */
export interface CallHistory {
  /** Those on which it has failed: it goes back to one only when there is no other. */
  readonly tried: ReadonlySet<BalancedWorker>;
  /** Those that had no room for it: it does not go back to them. */
  readonly full: ReadonlyMap<BalancedWorker, Refusal>;
}

/** Finds workers for the calls of one app. */
export interface Balancer {
  /**
   * The worker for a call: one that is healthy, has not refused it and is not ejected. Waits while none is known to be healthy but one may still be
   * connecting. Begins to connect with the first call, whose service is the one that health is watched of.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED with the smallest estimate where all that can be reached are full; UNAVAILABLE, saying how many
   *   are down or draining, where none can be reached; the signal's reason when it is aborted.
   */
  pick(service: string, history: CallHistory, signal: AbortSignal): Promise<BalancedWorker>;
  /** Workers that are known now, in the order of the address list. */
  readonly workers: readonly BalancedWorker[];
  /** Ends all connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Time for the other workers to speak when the first one is ready, in milliseconds. */
const settleMs = 500;

/** @throws Error where the target cannot be parsed. */
export function createBalancer({ appId, target, policies, connect }: BalancerOptions): Balancer {
  const choose = createChoice(policies.loadBalancing);
  const waiting = new Set<() => void>();
  let workers: readonly BalancedWorker[] = [];
  let addresses: AddressWatch | undefined;
  /** `unknown` until the resolver has answered for the first time. */
  let names: "unknown" | "found" | "failed" = "unknown";
  let closed = false;
  /** Until the first workers have all spoken, or for a moment after the first of them is ready: it would get the calls of all. */
  let settled = false;
  let settling: NodeJS.Timeout | undefined;

  const changed = (): void => {
    if (!settled && workers.some(({ health }) => health === "serving")) {
      settling ??= setTimeout(settle, settleMs);
    }
    if (workers.length > 0 && workers.every(({ health }) => health !== "connecting")) {
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
    for (const wake of waiting) {
      wake();
    }
  };

  const open = (service: string): void => {
    addresses ??= watchAddresses(
      { target, everyMs: policies.reconnect.resolveEveryMs },
      {
        onAddresses(found) {
          const known = new Map(workers.map((worker) => [worker.address.name, worker]));
          workers = found.map((address) => known.get(address.name) ?? workerAt(address, service));
          for (const gone of known.values()) {
            if (!workers.includes(gone)) {
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

  const workerAt = (address: GrpcAddress, service: string): BalancedWorker =>
    createBalancedWorker({
      address,
      connection: connect(address),
      service,
      policies,
      onChange(health) {
        if (health === "down") {
          addresses?.refresh();
        }
        changed();
      },
    });

  const nextChange = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve) => {
      const wake = () => {
        waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      waiting.add(wake);
      signal.addEventListener("abort", wake);
    });

  /** Those of the best kind that there are: not yet tried before tried, and ejected ones only where too many would be left out. */
  const preferred = (free: readonly BalancedWorker[], tried: CallHistory["tried"]): readonly BalancedWorker[] => {
    const ejected = workers.filter(({ outliers }) => outliers.ejected);
    const mayEject = ejected.length <= (workers.length * policies.outlierDetection.maxEjectionPercent) / 100;
    const sound = mayEject ? free.filter((worker) => !ejected.includes(worker)) : free;
    const kinds = [sound.filter((worker) => !tried.has(worker)), free.filter((worker) => !tried.has(worker)), sound];
    return kinds.find((kind) => kind.length > 0) ?? free;
  };

  /** One look at the workers: the one to take, undefined where it is worth waiting, or why there is none. */
  const look = ({ tried, full }: CallHistory): BalancedWorker | undefined => {
    const serving = workers.filter(({ health }) => health === "serving");
    const free = serving.filter((worker) => !full.has(worker));
    const chosen = settled ? choose(preferred(free, tried)) : undefined;
    if (chosen !== undefined) {
      return chosen;
    }
    if (
      names === "unknown" ||
      (!settled && workers.length > 0) ||
      workers.some(({ health }) => health === "connecting")
    ) {
      return undefined;
    }
    if (serving.length > 0) {
      throw allFull(
        appId,
        serving.flatMap((worker) => full.get(worker) ?? []),
      );
    }
    throw unavailable(`no replica of ${appId} can be reached: ${describeLoss(workers, names === "failed")}`);
  };

  return {
    get workers() {
      return workers;
    },
    async pick(service, history, signal) {
      for (;;) {
        if (closed) {
          throw unavailable("the channel is closed");
        }
        signal.throwIfAborted();
        open(service);
        const worker = look(history);
        if (worker !== undefined) {
          return worker;
        }
        await nextChange(signal);
      }
    },
    close() {
      closed = true;
      clearTimeout(settling);
      addresses?.stop();
      for (const worker of workers) {
        worker.close();
      }
      workers = [];
      changed();
    },
  };
}

/** The refusal of the one that has room first, for all. One worker alone says it itself. */
function allFull(appId: string, refusals: readonly Refusal[]): ConnectError {
  const [soonest] = refusals.toSorted((one, other) => one.retryAfterMs - other.retryAfterMs);
  if (soonest === undefined) {
    return unavailable(`no replica of ${appId} takes the call`);
  }
  const { reason, retryAfterMs } = soonest;
  const words =
    refusals.length === 1
      ? reason
      : `all ${refusals.length} replicas of ${appId} are full; the first to have room says: ${reason}`;
  return queueFull(words, retryAfterMs);
}

function describeLoss(workers: readonly BalancedWorker[], unresolved: boolean): string {
  if (workers.length === 0) {
    return unresolved ? "its name cannot be resolved" : "its name has no addresses";
  }
  const down = workers.filter(({ health }) => health === "down").length;
  const refusing = workers.length - down;
  const verb = (count: number) => `${count} ${count === 1 ? "is" : "are"}`;
  return [
    ...(down > 0 ? [`${verb(down)} down`] : []),
    ...(refusing > 0 ? [`${verb(refusing)} draining or not ready`] : []),
  ].join(", ");
}
