import type { Transport } from "@connectrpc/connect";
import type { Connection } from "../grpc/connection.js";
import type { GrpcAddress } from "../grpc/grpc-addresses.js";
import { type WorkerHealth, watchHealth } from "../grpc/grpc-health-watch.js";
import type { Policies } from "../grpc/policies.js";
import { createWorkerLoad, type WorkerLoad } from "./balancing-load.js";
import { createOutlierWatch, type OutlierWatch } from "./balancing-outliers.js";

/** One worker of an app: its address with all that is known of it. */
export interface BalancedWorker {
  readonly address: GrpcAddress;
  readonly transport: Transport;
  readonly load: WorkerLoad;
  readonly outliers: OutlierWatch;
  readonly health: WorkerHealth;
  /**
   * Milliseconds until it thinks that it has room; 0 where it has not said so. No more than a hint: a refusal is about one call, its
   * deadline and its caller, and the next one may be taken.
   */
  readonly refusesForMs: number;
  /** It has refused a call, and said for how long. */
  refuseFor(ms: number): void;
  /** A place there has become free. */
  freed(): void;
  /** A call found it lost. */
  doubt(): void;
  /** Gives it no new calls; running ones go on. */
  close(): void;
}

/** Options of {@link createBalancedWorker}. */
export interface BalancedWorkerOptions {
  readonly address: GrpcAddress;
  readonly connection: Connection;
  /** Full name of the service whose health counts. */
  readonly service: string;
  readonly policies: Policies;
  /** Called when its health has changed. */
  readonly onChange: (health: WorkerHealth) => void;
}

/** Time for a worker's first word, in milliseconds: so long it is not known whether it is there. */
const firstWordMs = 5_000;

/** Connects to one worker and watches its health, until it is closed. */
export function createBalancedWorker(options: BalancedWorkerOptions): BalancedWorker {
  const { address, connection, policies } = options;
  let health: WorkerHealth = "connecting";
  let refusesUntil = 0;
  let outliers = createOutlierWatch(policies.outlierDetection);
  const watch = watchHealth({
    transport: connection.transport,
    service: options.service,
    firstWordMs,
    backoff: policies.reconnect,
    onChange(next) {
      health = next;
      refusesUntil = 0;
      if (next === "serving") {
        // It says itself that it is well: a worker that was restarted has not failed yet.
        outliers = createOutlierWatch(policies.outlierDetection);
      }
      options.onChange(next);
    },
  });
  return {
    address,
    transport: connection.transport,
    load: createWorkerLoad(),
    get outliers() {
      return outliers;
    },
    get health() {
      return health;
    },
    get refusesForMs() {
      return Math.max(0, refusesUntil - performance.now());
    },
    refuseFor(ms) {
      refusesUntil = performance.now() + ms;
    },
    freed() {
      refusesUntil = 0;
    },
    doubt: watch.doubt,
    close() {
      watch.stop();
      connection.close();
    },
  };
}
