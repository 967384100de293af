import type { Interceptor, Transport } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";

/** Connections to one app, with a transport that balances calls over its replicas. */
export interface Connection {
  readonly transport: Transport;
  /**
   * Returns the app's replicas, once they have reported their health or after 2 s. Absent: the connection has no replica list.
   *
   * @param service full name of the service whose health counts.
   */
  readonly workers?: ((service: string) => Promise<readonly WorkerStatus[]>) | undefined;
  /** Calls back whenever a replica becomes healthy. Absent: the connection watches no health. */
  readonly onServing?: ((listener: () => void) => void) | undefined;
  /** Closes the connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Encryption of the connections to an app, and our credentials. */
export interface ConnectionSecurity {
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials;
  /** Client interceptors that add our credentials. @default none */
  readonly interceptors?: readonly Interceptor[];
  /** Expected name in the servers' certificates. @default the target's host */
  readonly serverName?: string;
}

/**
 * Health of one replica, from grpc.health.v1: `connecting` before its first report; `serving`; `not-serving` while it is reachable and
 * reports NOT_SERVING, such as during drain; `down` after its connection is lost, until its next report.
 */
export type WorkerHealth = "connecting" | "serving" | "not-serving" | "down";

/** One replica of an app, as this process sees it. */
export interface WorkerStatus {
  /** `10.0.0.1:50052`, `[::1]:50052` or the path of a Unix socket. */
  readonly address: string;
  readonly health: WorkerHealth;
  /** Calls of this process that run on the replica or wait in its queue. */
  readonly inFlight: number;
  /** Calls of others before ours, as far as the worker has reported. */
  readonly others: number;
  /** Average service time of a call, in milliseconds; null before the first one. */
  readonly serviceMs: number | null;
  /** Estimated time until one more call would start, in milliseconds; null before its speed is known. */
  readonly expectedWaitMs: number | null;
  /** Milliseconds until the replica expects a free slot, from its last rejection; else 0. */
  readonly rejectsForMs: number;
  /** Whether outlier detection has ejected the replica. */
  readonly ejected: boolean;
  /** Version that a registered replica states; empty for none. Absent: the replica is not registered. */
  readonly version?: string | undefined;
}
