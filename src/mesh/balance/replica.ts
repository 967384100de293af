import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import {
  HealthCheckRequestSchema,
  HealthCheckResponseSchema,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../gen/grpc/health/v1/health_pb.js";
import type { WorkerHealth, WorkerStatus } from "../grpc/connection.js";
import type { GrpcAddress } from "../grpc/grpc-addresses.js";
import type { Connections } from "../grpc/grpc-connections.js";
import type { Policies } from "../grpc/policies.js";
import { createOutlierWatch, createReplicaLoad, type OutlierWatch, type ReplicaLoad } from "./replica-load.js";

/** One replica of an app: address, connections, load and health. */
export interface Replica {
  readonly address: GrpcAddress;
  readonly connections: Connections;
  readonly load: ReplicaLoad;
  readonly outliers: OutlierWatch;
  readonly health: WorkerHealth;
  /**
   * Milliseconds until the replica expects a free slot; 0 by default. Only a hint: a rejection depends on the call's deadline and caller, so
   * the next call may be accepted.
   */
  readonly rejectsForMs: number;
  /** Records a rejection with its retry delay. */
  rejectFor(ms: number): void;
  /** Records that a slot has become free. */
  onCapacity(): void;
  /** Records a lost connection. Needed for replicas without a health service. */
  markSuspect(): void;
  status(): WorkerStatus;
  /** Stops new calls; running ones continue. */
  close(): void;
}

/** Options of {@link createReplica}. */
export interface ReplicaOptions {
  readonly address: GrpcAddress;
  readonly connections: Connections;
  /** Full name of the service whose health counts. */
  readonly service: string;
  readonly policies: Policies;
  /** Called when the health has changed. */
  readonly onChange: (health: WorkerHealth) => void;
}

/**
 * Time for a replica's first health report, in milliseconds; after it the replica counts as down. Counted in steps, because a single timer of
 * a busy process could fire before the report that has already arrived is read.
 */
const firstReportMs = 5_000;
const firstReportSteps = 10;

/** Connect to one replica and watch its health until it is closed. */
export function createReplica(options: ReplicaOptions): Replica {
  const { address, connections, policies } = options;
  const load = createReplicaLoad();
  let health: WorkerHealth = "connecting";
  let rejectsUntil = 0;
  let outliers = createOutlierWatch(policies.outlierDetection);
  const rejectsForMs = () => Math.max(0, rejectsUntil - performance.now());
  const watch = watchHealth(options, (next) => {
    health = next;
    rejectsUntil = 0;
    if (next === "serving") {
      // A restarted replica starts without recorded failures.
      outliers = createOutlierWatch(policies.outlierDetection);
    }
    options.onChange(next);
  });
  return {
    address,
    connections,
    load,
    get outliers() {
      return outliers;
    },
    get health() {
      return health;
    },
    get rejectsForMs() {
      return rejectsForMs();
    },
    rejectFor(ms) {
      rejectsUntil = performance.now() + ms;
    },
    onCapacity() {
      rejectsUntil = 0;
    },
    markSuspect: watch.markSuspect,
    status() {
      const { inFlight, others, serviceMs } = load;
      return {
        address: address.name,
        health,
        inFlight,
        others: Math.round(others),
        serviceMs: serviceMs === undefined ? null : Math.round(serviceMs),
        expectedWaitMs: serviceMs === undefined ? null : Math.round(load.expectedWaitMs(serviceMs)),
        rejectsForMs: Math.round(rejectsForMs()),
        ejected: outliers.ejected,
      };
    },
    close() {
      watch.stop();
      connections.close();
    },
  };
}

/**
 * Watch a replica's health by an open grpc.health.v1.Health/Watch call, which grpc-js itself does not do.
 *
 * The open call also keeps keepalive active, so a replica that disappears without a FIN is noticed. A replica without the health service
 * counts as serving while it is reachable.
 *
 * @see https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
function watchHealth({ connections, service, policies }: ReplicaOptions, onChange: (health: WorkerHealth) => void) {
  const { initialBackoffMs, maxBackoffMs } = policies.reconnect;
  let health: WorkerHealth = "connecting";
  let stopped = false;
  let backoffMs = initialBackoffMs;
  let cancel = () => {};
  /** Set while the replica has no health service. */
  let onSuspect: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;

  const setHealth = (next: WorkerHealth): void => {
    if (health !== next && !stopped) {
      clearInterval(firstReport);
      health = next;
      onChange(next);
    }
  };

  const scheduleRetry = (): void => {
    if (!stopped) {
      timer = setTimeout(watch, backoffMs);
      backoffMs = Math.min(backoffMs * 2, maxBackoffMs);
    }
  };

  const watch = (): void => {
    // While the replica is down, the call waits for the connection and so reports its return at once.
    const metadata = new grpc.Metadata({ waitForReady: health === "down" });
    const call = connections.start("/grpc.health.v1.Health/Watch", metadata, {
      onMessage(bytes) {
        backoffMs = initialBackoffMs;
        setHealth(isServing(bytes) ? "serving" : "not-serving");
        call.read();
      },
      onEnd(failure) {
        if (failure?.error.code === Code.Unimplemented) {
          onSuspect = () => {
            onSuspect = undefined;
            setHealth("down");
            scheduleRetry();
          };
          backoffMs = initialBackoffMs;
          setHealth("serving");
          return;
        }
        if (failure !== undefined) {
          setHealth("down");
        }
        scheduleRetry();
      },
    });
    cancel = call.cancel;
    call.send(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service })));
    call.halfClose();
    call.read();
  };

  let silentSteps = 0;
  const firstReport = setInterval(() => {
    silentSteps++;
    if (silentSteps === firstReportSteps) {
      setHealth("down");
    }
  }, firstReportMs / firstReportSteps);
  watch();
  return {
    markSuspect: () => onSuspect?.(),
    stop() {
      stopped = true;
      clearInterval(firstReport);
      clearTimeout(timer);
      cancel();
    },
  };
}

function isServing(bytes: Uint8Array): boolean {
  try {
    return fromBinary(HealthCheckResponseSchema, bytes).status === ServingStatus.SERVING;
  } catch {
    return false;
  }
}
