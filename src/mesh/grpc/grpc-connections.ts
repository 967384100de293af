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
  /** Further grpc-js channel options. They win over the policies. */
  readonly grpcOptions?: grpc.ChannelOptions | undefined;
}

/** Told what a call receives. `onEnd` comes once, last, and not after `cancel`. */
export interface CallListener {
  onHeader?(header: grpc.Metadata): void;
  onMessage(bytes: Buffer): void;
  /** @param failure undefined: the status is OK. */
  onEnd(failure: CallFailure | undefined, trailer: grpc.Metadata): void;
}

/** A call that has begun. */
export interface RunningCall {
  /** @param onSent called when another message may be sent. */
  send(bytes: Uint8Array, onSent?: () => void): void;
  halfClose(): void;
  /** Asks for one more message. */
  read(): void;
  /** Resets the stream. The listener hears nothing more. */
  cancel(): void;
}

/** The connections to one server. */
export interface Connections {
  /**
   * Begins a call.
   *
   * @param path `/package.Service/Method`.
   * @throws CallFailure when it is closed.
   */
  start(path: string, metadata: grpc.Metadata, listener: CallListener): RunningCall;
  /** Closes the connections once running calls have ended. */
  close(): void;
}

/** Calls in flight on one connection: the least that HTTP/2 recommends servers to allow (RFC 9113 §6.5.2). */
const maxCalls = 100;
/**
 * Streams that we reset on one connection at once, and again each second. Servers end a connection with more: nghttp2, and so Node, after
 * 1,000 and 33 a second; Envoy after 500. With this budget one caller's cancels cannot end another's call.
 */
const resetBurst = 400;
const resetsPerSecond = 30;
/** Most connections to one server. Above it calls share them beyond `maxCalls`. */
const maxConnections = 64;
/** Time without a call after which an extra connection is closed, in milliseconds. */
const idleMs = 30_000;

type GrpcCall = ReturnType<grpc.ChannelInterface["createCall"]>;

/** One channel, and the one connection that it makes: when that is lost or is going away, new calls get another channel. */
interface Connection {
  readonly channel: grpc.Channel;
  /** Once it is connected. */
  socket: Socket | undefined;
  calls: number;
  /** Resets that count against the budget, at `resetsAt`. */
  resets: number;
  resetsAt: number;
  idle: NodeJS.Timeout | undefined;
}

/** Creates connections to one server. The first one is made with the first call, further ones when streams or resets run out. */
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
    // Else channels of the same target would share one connection.
    "grpc.use_local_subchannel_pool": 1,
    ...options.grpcOptions,
  };
  let connections: Connection[] = [];
  let closed = false;

  const open = (): Connection => {
    const connection: Connection = {
      channel: new grpc.Channel(
        options.target,
        observed(credentials, (socket) => {
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

  const take = (): Connection => {
    // The channels of those that go away are closed when their calls have ended.
    for (const connection of connections.filter(isLeaving)) {
      drop(connection);
    }
    const free = connections.find((connection) => connection.calls < maxCalls && hasResets(connection));
    if (free !== undefined) {
      return free;
    }
    const [calmest] = connections.length < maxConnections ? [] : connections.toSorted((a, b) => a.calls - b.calls);
    return calmest ?? open();
  };

  const drop = (connection: Connection): void => {
    connections = connections.filter((other) => other !== connection);
    connection.channel.close();
  };

  const enter = (connection: Connection): void => {
    clearTimeout(connection.idle);
    connection.calls++;
  };

  const leave = (connection: Connection): void => {
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
      const connection = take();
      enter(connection);
      const call = connection.channel.createCall(path, Number.POSITIVE_INFINITY, null, null, null);
      let ended = false;
      let header: grpc.Metadata | undefined;
      const end = (): boolean => {
        const isFirst = !ended;
        if (isFirst) {
          ended = true;
          leave(connection);
        }
        return isFirst;
      };
      const fail = (status: grpc.StatusObject) => {
        if (end()) {
          const facts = { started: isStarted(call, connection), header, connectionLost: isLost(connection) };
          listener.onEnd(failureOf(status, facts), status.metadata);
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
            // The end of a stream may be seen before that of its connection.
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

/** Whether the call's stream was opened: before that, grpc-js gives the channel's target in place of the peer. */
function isStarted(call: GrpcCall, { channel }: Connection): boolean {
  return call.getPeer() !== channel.getTarget();
}

function isLost({ socket }: Connection): boolean {
  return socket?.destroyed ?? false;
}

/** Whether the connection was made and is lost, or the server has said that it goes away. */
function isLeaving({ channel, socket }: Connection): boolean {
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

/** Whether one more call could be reset, if all others are too. */
function hasResets(connection: Connection): boolean {
  return currentResets(connection) + connection.calls < resetBurst;
}

function spendReset(connection: Connection): void {
  connection.resets = currentResets(connection) + 1;
  connection.resetsAt = performance.now();
}

/**
 * The same credentials, which tell of the socket of each connection. grpc-js has no event for the loss of a connection: without it a lost
 * connection, a stream that the server resets, and a server that goes away gracefully look the same.
 */
function observed(credentials: grpc.ChannelCredentials, onConnect: (socket: Socket) => void): grpc.ChannelCredentials {
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
