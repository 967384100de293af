import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import type { Connection } from "../grpc/connection.js";
import { createChannel } from "../grpc/grpc-channel.js";
import { createGrpcTransport } from "../grpc/grpc-transport.js";
import type { Policies } from "../grpc/policies.js";
import type { WorkerStatus } from "../grpc/worker-status.js";
import { createBalancedTransport } from "./balanced-transport.js";
import type { BalancedWorker } from "./balanced-worker.js";
import { createBalancer } from "./balancer.js";
import type { LoadReport } from "./balancing-load.js";

/** Time for workers to speak before it is said how they are, in milliseconds. */
const statusWaitMs = 2_000;

/** Options of {@link connectApp}. */
export interface ConnectAppOptions {
  /** Name of the app in errors. */
  readonly appId: string;
  /** gRPC target of all its workers. */
  readonly target: string;
  readonly policies: Policies;
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** Client interceptors, the outermost first. They see each attempt. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Name that the workers' certificates have to be for. @default the target's host */
  readonly serverName?: string | undefined;
  /** Reads what a message of a worker tells of its load. @default nothing is read */
  readonly loadOf?: ((message: Message) => LoadReport | undefined) | undefined;
}

/**
 * Connects to all workers of an app, with one channel for each address: grpc-js resolves names, connects and keeps alive; which worker gets
 * a call, and what happens when it fails, is decided here, because grpc-js retries without a word about where, holds a call back that another
 * worker could take at once, and knows nothing of health.
 *
 * @throws Error where the target cannot be parsed.
 */
export function connectApp(options: ConnectAppOptions): Connection {
  const { appId, target, policies, credentials, interceptors = [], serverName, loadOf } = options;
  const balancer = createBalancer({
    appId,
    target,
    policies,
    connect(address) {
      const grpcOptions = {
        ...address.grpcOptions,
        ...(serverName !== undefined && { "grpc.ssl_target_name_override": serverName }),
      };
      const channel = createChannel({ target: address.target, policies, credentials, grpcOptions });
      return { transport: createGrpcTransport({ channel, interceptors }), close: channel.close };
    },
  });
  return {
    transport: createBalancedTransport({ balancer, policies, loadOf }),
    async workers(service) {
      // Whether a call could be made does not matter, only that by then the workers have spoken.
      const nothing = { tried: new Set<never>(), full: new Map<never, never>() };
      await balancer.pick(service, nothing, AbortSignal.timeout(statusWaitMs)).catch(() => {});
      return balancer.workers.map(statusOfWorker);
    },
    close: balancer.close,
  };
}

function statusOfWorker({ address, health, load, outliers, refusesForMs }: BalancedWorker): WorkerStatus {
  const { inFlight, others, serviceMs } = load;
  return {
    address: address.name,
    health,
    inFlight,
    others: Math.round(others),
    serviceMs: serviceMs === undefined ? null : Math.round(serviceMs),
    expectedWaitMs: serviceMs === undefined ? null : Math.round(load.expectedWaitMs(serviceMs)),
    refusesForMs: Math.round(refusesForMs),
    ejected: outliers.ejected,
  };
}
