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

/** One replica of an app: its address with all that is known of it. */
export interface Replica {
  readonly address: GrpcAddress;
  readonly connections: Connections;
  readonly load: ReplicaLoad;
  readonly outliers: OutlierWatch;
  readonly health: WorkerHealth;
  /**
   * Milliseconds until it expects a free slot; 0 where it has not said so. Only a hint: a rejection is about one call, its deadline and its
   * caller, and the next one may be taken.
   */
  readonly rejectsForMs: number;
  /** It has rejected a call, and said for how long. */
  rejectFor(ms: number): void;
  /** One of its slots has become free. */
  freed(): void;
  /** A call found it lost. Without a health service, this is how that is noticed. */
  suspect(): void;
  status(): WorkerStatus;
  /** Gives it no new calls; running ones go on. */
  close(): void;
}

/** Options of {@link createReplica}. */
export interface ReplicaOptions {
  readonly address: GrpcAddress;
  readonly connections: Connections;
  /** Full name of the service whose health counts. */
  readonly service: string;
  readonly policies: Policies;
  /** Called when its health has changed. */
  readonly onChange: (health: WorkerHealth) => void;
}

/**
 * Time for a replica's first health report, in milliseconds; then it counts as down. It is counted in steps, between which this process has
 * looked for the report: a busy one would else run the timer first.
 */
const firstReportMs = 5_000;
const firstReportSteps = 10;

/** Connects to one replica and watches its health, until it is closed. */
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
      // It reports itself as healthy: a replica that was restarted has not failed yet.
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
    freed() {
      rejectsUntil = 0;
    },
    suspect: watch.suspect,
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
 * Client-side health checking, which grpc-js does not have: keeps a call of grpc.health.v1.Health/Watch open. The open call also makes
 * keepalive notice a replica that is gone without a word while nothing else runs. A replica without that service counts as serving while it
 * can be reached.
 *
 * @see https://github.com/grpc/grpc/blob/master/doc/health-checking.md
 */
function watchHealth({ connections, service, policies }: ReplicaOptions, onChange: (health: WorkerHealth) => void) {
  const { initialBackoffMs, maxBackoffMs } = policies.reconnect;
  let health: WorkerHealth = "connecting";
  let stopped = false;
  let pauseMs = initialBackoffMs;
  let cancel = () => {};
  /** Set while the replica has no health service. */
  let onSuspicion: (() => void) | undefined;
  let timer: NodeJS.Timeout | undefined;

  const tell = (next: WorkerHealth): void => {
    if (health !== next && !stopped) {
      clearInterval(silence);
      health = next;
      onChange(next);
    }
  };

  const again = (): void => {
    if (!stopped) {
      timer = setTimeout(watch, pauseMs);
      pauseMs = Math.min(pauseMs * 2, maxBackoffMs);
    }
  };

  const watch = (): void => {
    // Once it is known to be down, the call waits for the connection, so that the replica is seen the moment it is back.
    const metadata = new grpc.Metadata({ waitForReady: health === "down" });
    const call = connections.start("/grpc.health.v1.Health/Watch", metadata, {
      onMessage(bytes) {
        pauseMs = initialBackoffMs;
        tell(isServing(bytes) ? "serving" : "rejecting");
        call.read();
      },
      onEnd(failure) {
        if (failure?.error.code === Code.Unimplemented) {
          onSuspicion = () => {
            onSuspicion = undefined;
            tell("down");
            again();
          };
          pauseMs = initialBackoffMs;
          tell("serving");
          return;
        }
        if (failure !== undefined) {
          tell("down");
        }
        again();
      },
    });
    cancel = call.cancel;
    call.send(toBinary(HealthCheckRequestSchema, create(HealthCheckRequestSchema, { service })));
    call.halfClose();
    call.read();
  };

  let silentSteps = 0;
  const silence = setInterval(() => {
    silentSteps++;
    if (silentSteps === firstReportSteps) {
      tell("down");
    }
  }, firstReportMs / firstReportSteps);
  watch();
  return {
    suspect: () => onSuspicion?.(),
    stop() {
      stopped = true;
      clearInterval(silence);
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
