import type { Message } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import type * as grpc from "@grpc/grpc-js";
import { createBalancedTransport } from "./balanced-transport.js";
import { createBalancer } from "./balancer.js";
import type { LoadReport } from "./balancing-load.js";
import type { Connection } from "./connection.js";
import { createChannel } from "./grpc-channel.js";
import { createGrpcTransport } from "./grpc-transport.js";
import type { Policies } from "./policies.js";

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
  const { appId, target, policies, credentials, interceptors = [], loadOf } = options;
  const balancer = createBalancer({
    appId,
    target,
    policies,
    connect(address) {
      const { grpcOptions } = address;
      const channel = createChannel({ target: address.target, policies, credentials, grpcOptions });
      return { transport: createGrpcTransport({ channel, interceptors }), close: channel.close };
    },
  });
  return { transport: createBalancedTransport({ balancer, policies, loadOf }), close: balancer.close };
}
