import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import type { Connection } from "../grpc/connection.js";
import { createConnections } from "../grpc/grpc-connections.js";
import type { Policies } from "../grpc/policies.js";
import { createBalancedTransport } from "./balanced-transport.js";
import { createBalancer } from "./balancer.js";
import type { LoadReport } from "./replica-load.js";

/** Time for replicas to report before the status is given, in milliseconds. */
const statusWaitMs = 2_000;

/** Options of {@link connectApp}. */
export interface ConnectAppOptions {
  /** Name of the app in errors. */
  readonly appId: string;
  /** gRPC target of all its replicas. */
  readonly target: string;
  readonly policies: Policies;
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** Client interceptors, the outermost first. They see each call once, with all its attempts. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Name that the servers' certificates must be for. @default the target's host */
  readonly serverName?: string | undefined;
  /** Reads what a message reports of its worker's load. @default nothing is read */
  readonly loadOf?: ((message: Message) => LoadReport | undefined) | undefined;
}

/**
 * Connects to all replicas of an app: grpc-js resolves names, connects and keeps alive. Which replica gets a call, and what happens when it
 * fails, is decided here, because grpc-js knows nothing of health or of expected wait, and retries without saying where.
 *
 * @throws Error where the target cannot be parsed.
 */
export function connectApp(options: ConnectAppOptions): Connection {
  const { appId, target, policies, credentials, interceptors, serverName, loadOf } = options;
  const balancer = createBalancer({
    appId,
    target,
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
    transport: createBalancedTransport({ balancer, policies, interceptors, loadOf }),
    async workers(service) {
      balancer.open(service);
      await firstReports(balancer.isSettled, balancer.onNextChange);
      return balancer.replicas.map((replica) => replica.status());
    },
    close: balancer.close,
  };
}

/** Waits until the replicas have reported, for a moment at most. */
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
