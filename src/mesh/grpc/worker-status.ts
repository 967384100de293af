import type { WorkerHealth } from "./grpc-health-watch.js";

/** One worker of an app, as the calls of this process see it: a worker itself tells nobody of its queue but those who stand in it. */
export interface WorkerStatus {
  /** `10.0.0.1:50052`, `[::1]:50052` or the path of a Unix socket. */
  readonly address: string;
  /** `grpc.health.v1`, watched: `serving`; `refusing` (draining or not ready); `down`; `connecting` before its first word. */
  readonly health: WorkerHealth;
  /** Calls of this process that run there or wait in its queue. */
  readonly inFlight: number;
  /** Calls of others before ours, as far as the worker has told of them. */
  readonly others: number;
  /** Average time of a call in its service, in milliseconds; null before the first one. */
  readonly serviceMs: number | null;
  /** Estimated time until it would begin with one more call, in milliseconds; null before its speed is known. */
  readonly expectedWaitMs: number | null;
  /** Milliseconds until it thinks that it has room, as it said when it refused a call; else 0. */
  readonly refusesForMs: number;
  /** Whether it is left out for a while because it failed too often. */
  readonly ejected: boolean;
}
