import * as grpc from "@grpc/grpc-js";
import { type Policies, readPolicies } from "./policies.js";

/** Options of {@link createChannel}. */
export interface ChannelOptions {
  /** gRPC target: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5,…`, `unix:/path`, or whatever scheme is registered. */
  readonly target: string;
  /** Of these the ones about connections and messages are a channel's. @default all defaults */
  readonly policies?: Pick<Policies, "keepalive" | "messages" | "reconnect"> | undefined;
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** Further grpc-js channel options, such as `grpc.service_config`. They win over what the policies say. */
  readonly grpcOptions?: grpc.ChannelOptions | undefined;
}

/** A lazily connected channel to one target, of one address where the balancer makes it, with the keepalive and reconnects of grpc-js. */
export interface Channel {
  readonly target: string;
  /** The grpc-js client that makes the calls. */
  readonly client: grpc.Client;
  /** Closes the connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Creates a channel. It connects with the first call. Throws where the target cannot be parsed. */
export function createChannel(options: ChannelOptions): Channel {
  const { keepalive, messages, reconnect } = options.policies ?? readPolicies();
  const client = new grpc.Client(options.target, options.credentials ?? grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": messages.maxReceiveBytes,
    "grpc.max_send_message_length": messages.maxSendBytes,
    "grpc.keepalive_time_ms": keepalive.timeMs,
    "grpc.keepalive_timeout_ms": keepalive.timeoutMs,
    "grpc.initial_reconnect_backoff_ms": reconnect.initialBackoffMs,
    "grpc.max_reconnect_backoff_ms": reconnect.maxBackoffMs,
    // A service config comes from the policies and not from whoever answers for the name, and no proxy from the environment.
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_http_proxy": 0,
    ...options.grpcOptions,
  });
  return { target: options.target, client, close: () => client.close() };
}
