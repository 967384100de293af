import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import type { Connection } from "../grpc/connection.js";
import { createConnections } from "../grpc/grpc-connections.js";
import type { Policies } from "../grpc/policies.js";
import { type RegisteredReplicas, registeredName } from "../grpc/registered-replicas.js";
import { createBalancedTransport } from "./balanced-transport.js";
import { createBalancer } from "./balancer.js";
import type { LoadReport } from "./replica-load.js";
import type { RequestFallback } from "./request-fallback.js";

/** Longest wait for health reports before the status is returned, in milliseconds. */
const statusWaitMs = 2_000;

/** Options of {@link connectApp}. */
export interface ConnectAppOptions {
  /** App id for error messages. */
  readonly appId: string;
  /** gRPC target of its replicas. */
  readonly target: string;
  /** Replicas that have registered themselves, besides those of the target. @default none */
  readonly registered?: RegisteredReplicas | undefined;
  readonly policies: Policies;
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** Client interceptors, the outermost first. They run once a call, not once an attempt. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Expected name in the servers' certificates. @default the target's host */
  readonly serverName?: string | undefined;
  /** Reads the worker's load from a response message. @default not read */
  readonly loadOf?: ((message: Message) => LoadReport | undefined) | undefined;
  /** Older form of requests, for replicas that reject the current one. @default none */
  readonly fallback?: RequestFallback | undefined;
}

/**
 * Connect to all replicas of an app.
 *
 * grpc-js resolves names, connects and sends keepalives. This package balances and retries, because grpc-js supports neither client-side
 * health checking nor balancing by expected wait, and does not report where it retried.
 *
 * @throws Error if the target cannot be parsed.
 */
export function connectApp(options: ConnectAppOptions): Connection {
  const { appId, target, registered, policies, credentials, interceptors, serverName, loadOf, fallback } = options;
  const balancer = createBalancer({
    appId,
    target,
    registered,
    policies,
    connect(address) {
      const grpcOptions = {
        ...address.grpcOptions,
        ...(serverName !== undefined && { "grpc.ssl_target_name_override": serverName }),
      };
      return createConnections({ target: address.target, policies, credentials, grpcOptions });
    },
  });
  return {
    transport: createBalancedTransport({ balancer, policies, interceptors, loadOf, fallback }),
    async workers(service) {
      balancer.open(service);
      await firstReports(balancer.isSettled, balancer.onNextChange);
      const versions = new Map((registered?.current ?? []).map((each) => [registeredName(each), each.version]));
      return balancer.replicas.map((replica) => {
        const version = versions.get(replica.address.name);
        return { ...replica.status(), ...(version !== undefined && { version }) };
      });
    },
    onServing: balancer.onServing,
    close: balancer.close,
  };
}

/** Wait until the replicas have reported, at most `statusWaitMs`. */
async function firstReports(isSettled: () => boolean, onNextChange: (listener: () => void) => () => void) {
  let isLate = false;
  let wake = () => {};
  const timer = setTimeout(() => {
    isLate = true;
    wake();
  }, statusWaitMs);
  while (!isLate && !isSettled()) {
    await new Promise<void>((resolve) => {
      const forget = onNextChange(resolve);
      wake = () => {
        forget();
        resolve();
      };
    });
  }
  clearTimeout(timer);
}
