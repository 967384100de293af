import type { Socket } from "node:net";
import * as grpc from "@grpc/grpc-js";
import { unavailable } from "../errors/errors.js";
import { CallFailure, failureOf, mayBeLoss } from "./grpc-status.js";
import type { Policies } from "./policies.js";

/** Options of {@link createConnections}. */
export interface ConnectionsOptions {
  /** gRPC target of one server. */
  readonly target: string;
  readonly policies: Pick<Policies, "keepalive" | "messages" | "reconnect">;
  /** @default cleartext */
  readonly credentials?: grpc.ChannelCredentials | undefined;
  /** More grpc-js channel options. They override the policies. */
  readonly grpcOptions?: grpc.ChannelOptions | undefined;
}

/** Listener of a call. `onEnd` is called once, last, and not after `cancel`. */
export interface CallListener {
  onHeader?(header: grpc.Metadata): void;
  onMessage(bytes: Buffer): void;
  /** @param failure undefined: the status is OK. */
  onEnd(failure: CallFailure | undefined, trailer: grpc.Metadata): void;
}

/** A running call. */
export interface RunningCall {
  /** @param onSent called when another message may be sent. */
  send(bytes: Uint8Array, onSent?: () => void): void;
  halfClose(): void;
  /** Requests one more message. */
  read(): void;
  /** Resets the stream. The listener is not called any more. */
  cancel(): void;
}

/** The connections to one server. */
export interface Connections {
  /**
   * Starts a call.
   *
   * @param path `/package.Service/Method`.
   * @throws CallFailure if the connections are closed.
   */
  start(path: string, metadata: grpc.Metadata, listener: CallListener): RunningCall;
  /** Closes the connections once running calls have ended. */
  close(): void;
}

/** Maximum calls in flight on one connection: the minimum that RFC 9113 §6.5.2 recommends servers to allow. */
const maxCalls = 100;
/**
 * Budget of stream resets on one connection: burst, and refill a second. Servers close a connection above their own budget: nghttp2, and so
 * Node, above 1,000 and 33 a second; Envoy above 500. Within this budget one caller's cancels cannot end another caller's call.
 */
const resetBurst = 400;
const resetsPerSecond = 30;
/** Maximum connections to one server. Beyond it, calls share them above `maxCalls`. */
const maxConnections = 64;
/** Idle time after which an extra connection is closed, in milliseconds. */
const idleMs = 30_000;

type GrpcCall = ReturnType<grpc.ChannelInterface["createCall"]>;

/** One channel with its one connection. When that is lost or going away, new calls get another channel. */
interface Connection {
  readonly channel: grpc.Channel;
  /** Set once connected. */
  socket: Socket | undefined;
  calls: number;
  /** Resets counted against the budget, as of `resetsAt`. */
  resets: number;
  resetsAt: number;
  idle: NodeJS.Timeout | undefined;
}

/** Create connections to one server: the first with the first call, more when streams or resets run out. */
export function createConnections(options: ConnectionsOptions): Connections {
  const credentials = options.credentials ?? grpc.credentials.createInsecure();
  const { keepalive, messages, reconnect } = options.policies;
  const channelOptions: grpc.ChannelOptions = {
    "grpc.max_receive_message_length": messages.maxReceiveBytes,
    "grpc.keepalive_time_ms": keepalive.timeMs,
    "grpc.keepalive_timeout_ms": keepalive.timeoutMs,
    "grpc.initial_reconnect_backoff_ms": reconnect.initialBackoffMs,
    "grpc.max_reconnect_backoff_ms": reconnect.maxBackoffMs,
    // The service config comes from the policies, and no proxy from the environment.
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_http_proxy": 0,
    "grpc.enable_channelz": 0,
    // Otherwise channels of the same target would share one connection.
    "grpc.use_local_subchannel_pool": 1,
    ...options.grpcOptions,
  };
  let connections: Connection[] = [];
  let closed = false;

  const open = (): Connection => {
    const connection: Connection = {
      channel: new grpc.Channel(
        options.target,
        withSocketListener(credentials, (socket) => {
          connection.socket = socket;
        }),
        channelOptions,
      ),
      socket: undefined,
      calls: 0,
      resets: 0,
      resetsAt: performance.now(),
      idle: undefined,
    };
    connections.push(connection);
    return connection;
  };

  const choose = (): Connection => {
    // `close` lets the running calls of the channel finish.
    for (const connection of connections.filter(isGoingAway)) {
      drop(connection);
    }
    const free = connections.find((connection) => connection.calls < maxCalls && hasResets(connection));
    if (free !== undefined) {
      return free;
    }
    const [leastLoaded] = connections.length < maxConnections ? [] : connections.toSorted((a, b) => a.calls - b.calls);
    return leastLoaded ?? open();
  };

  const drop = (connection: Connection): void => {
    connections = connections.filter((other) => other !== connection);
    connection.channel.close();
  };

  const acquire = (connection: Connection): void => {
    clearTimeout(connection.idle);
    connection.calls++;
  };

  const release = (connection: Connection): void => {
    connection.calls--;
    if (connection.calls === 0 && connection !== connections[0]) {
      connection.idle = setTimeout(drop, idleMs, connection).unref();
    }
  };

  return {
    start(path, metadata, listener) {
      if (closed) {
        throw new CallFailure(unavailable("the channel is closed"), "local");
      }
      const connection = choose();
      acquire(connection);
      const call = connection.channel.createCall(path, Number.POSITIVE_INFINITY, null, null, null);
      let ended = false;
      let header: grpc.Metadata | undefined;
      const end = (): boolean => {
        const isFirst = !ended;
        if (isFirst) {
          ended = true;
          release(connection);
        }
        return isFirst;
      };
      const fail = (status: grpc.StatusObject) => {
        if (end()) {
          const state = { started: isStarted(call, connection), header, connectionLost: isLost(connection) };
          listener.onEnd(failureOf(status, state), status.metadata);
        }
      };
      const cancel = (): void => {
        if (end()) {
          spendReset(connection);
          call.cancelWithStatus(grpc.status.CANCELLED, "cancelled");
        }
      };
      call.start(metadata, {
        onReceiveMetadata(received) {
          header = received;
          if (!ended) {
            listener.onHeader?.(received);
          }
        },
        onReceiveMessage(bytes) {
          if (!ended) {
            listener.onMessage(bytes);
          }
        },
        onReceiveStatus(status) {
          if (status.code !== grpc.status.OK) {
            // The end of the stream may be reported before that of its connection.
            mayBeLoss(status) ? setImmediate(fail, status) : fail(status);
          } else if (end()) {
            listener.onEnd(undefined, status.metadata);
          }
        },
      });
      return {
        send(bytes, onSent) {
          const context = onSent === undefined ? {} : { callback: onSent };
          call.sendMessageWithContext(context, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
        },
        halfClose() {
          if (!ended) {
            call.halfClose();
          }
        },
        read: () => call.startRead(),
        cancel,
      };
    },
    close() {
      closed = true;
      for (const connection of connections) {
        clearTimeout(connection.idle);
        drop(connection);
      }
    },
  };
}

/** Whether the call's stream was opened. Before that, grpc-js returns the channel's target as the peer. */
function isStarted(call: GrpcCall, { channel }: Connection): boolean {
  return call.getPeer() !== channel.getTarget();
}

/** Whether an established connection is lost. Node ends the socket of a session that grpc-js gives up, before it destroys it. */
function isLost({ socket }: Connection): boolean {
  return socket !== undefined && (socket.destroyed || socket.writableEnded);
}

/** Whether an established connection is lost or has received GOAWAY. */
function isGoingAway({ channel, socket }: Connection): boolean {
  if (socket === undefined) {
    return false;
  }
  const state = channel.getConnectivityState(false);
  return (
    socket.destroyed || state === grpc.connectivityState.IDLE || state === grpc.connectivityState.TRANSIENT_FAILURE
  );
}

function currentResets({ resets, resetsAt }: Connection): number {
  return Math.max(0, resets - ((performance.now() - resetsAt) / 1000) * resetsPerSecond);
}

/** Whether the budget suffices to reset all running calls and one more. */
function hasResets(connection: Connection): boolean {
  return currentResets(connection) + connection.calls < resetBurst;
}

function spendReset(connection: Connection): void {
  connection.resets = currentResets(connection) + 1;
  connection.resetsAt = performance.now();
}

/**
 * Wrap credentials to capture the socket of each connection. grpc-js has no event for a lost connection; without the socket, a lost
 * connection, a stream reset by the server, and a graceful GOAWAY look the same.
 */
function withSocketListener(
  credentials: grpc.ChannelCredentials,
  onConnect: (socket: Socket) => void,
): grpc.ChannelCredentials {
  const create: grpc.ChannelCredentials["_createSecureConnector"] = (...args) => {
    const connector = credentials._createSecureConnector(...args);
    return {
      async connect(tcp) {
        const connected = await connector.connect(tcp);
        onConnect(connected.socket);
        return connected;
      },
      waitForReady: () => connector.waitForReady(),
      getCallCredentials: () => connector.getCallCredentials(),
      destroy: () => connector.destroy(),
    };
  };
  return Object.create(credentials, { _createSecureConnector: { value: create } });
}
