import * as grpc from "@grpc/grpc-js";

/** Options of {@link createChannel}. */
export interface ChannelOptions {
  /** gRPC target: `host:port`, `dns:///host:port`, `ipv4:1.2.3.4:5,…`, `unix:/path`, or whatever scheme is registered. */
  readonly target: string;
  /** Largest message taken from the server, in bytes. Default: 33,554,432, because a result may hold a picture as `data:` URI. */
  readonly maxReceiveBytes?: number;
  /** Largest message sent to the server, in bytes. Default: 4,194,304, what servers take by default. */
  readonly maxSendBytes?: number;
  /** Time between HTTP/2 pings on a connection with calls, in milliseconds. Default: 30,000. */
  readonly keepaliveTimeMs?: number;
  /** Time to wait for a ping's answer before the connection counts as dead, in milliseconds. Default: 10,000. */
  readonly keepaliveTimeoutMs?: number;
  /** Longest pause between attempts to connect, in milliseconds. Default: 5,000; grpc-js's own 120,000 would keep a restarted server waiting. */
  readonly maxReconnectBackoffMs?: number;
  /** Default: cleartext. */
  readonly credentials?: grpc.ChannelCredentials;
  /** Further grpc-js channel options, such as `grpc.service_config`. They win over the ones above. */
  readonly grpcOptions?: grpc.ChannelOptions;
}

/** A lazily connected channel to one target, with the resolver, load balancing and reconnects of grpc-js. */
export interface Channel {
  readonly target: string;
  /** The grpc-js client that makes the calls. */
  readonly client: grpc.Client;
  /** Closes the connections once running calls have ended. Later calls fail with UNAVAILABLE. */
  close(): void;
}

/** Creates a channel. It connects with the first call. Throws where the target cannot be parsed. */
export function createChannel(options: ChannelOptions): Channel {
  const client = new grpc.Client(options.target, options.credentials ?? grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": options.maxReceiveBytes ?? 33_554_432,
    "grpc.max_send_message_length": options.maxSendBytes ?? 4_194_304,
    "grpc.keepalive_time_ms": options.keepaliveTimeMs ?? 30_000,
    "grpc.keepalive_timeout_ms": options.keepaliveTimeoutMs ?? 10_000,
    "grpc.max_reconnect_backoff_ms": options.maxReconnectBackoffMs ?? 5_000,
    ...options.grpcOptions,
  });
  return { target: options.target, client, close: () => client.close() };
}
