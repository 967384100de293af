import { isDeepStrictEqual } from "node:util";
import type { Interceptor, Transport } from "@connectrpc/connect";
import { watchStream } from "../../otelconnect/watched-stream.js";
import type { Connection, WorkerStatus } from "../grpc/connection.js";
import type { AppDirectory, AppDirectoryEntry } from "./app-directory.js";

/** Options of {@link createAppConnections}. */
export interface AppConnectionsOptions {
  readonly directory: AppDirectory;
  readonly connect: ConnectApp;
  /** Creates an app's client interceptors, the outermost first; called once an app. @default none */
  readonly interceptors?: ((appId: string) => readonly Interceptor[]) | undefined;
}

/** Connect to an app. The transport runs the client interceptors once a call, the outermost first. */
export type ConnectApp = (entry: AppDirectoryEntry, interceptors: readonly Interceptor[]) => Connection;

/** Status of one app of the directory. */
export interface AppStatus {
  readonly appId: string;
  /** gRPC target of all its workers. */
  readonly target: string;
  /** Whether the empty app id selects this app. */
  readonly isDefault: boolean;
  /** Workers, in the order of the address list. Empty if the name has no address, or for a connection that is not gRPC. */
  readonly workers: readonly WorkerStatus[];
}

/** Connections to the apps of a directory: one an app, created with its first call. */
export interface AppConnections {
  /**
   * Returns a transport to an app, which looks up the target with each call. Calls to a removed app fail with NOT_FOUND.
   *
   * @param appId an app id, not the empty one.
   */
  transportTo(appId: string): Transport;
  /**
   * Returns the status of the apps, connecting to them if needed.
   *
   * @param service full name of the service whose health counts.
   * @param mayList whether to include an app. @default all
   */
  describe(service: string, mayList?: (appId: string) => boolean): Promise<readonly AppStatus[]>;
  /** Calls back with the app id when an app's connection is created or replaced, and whenever one of its replicas becomes healthy. */
  onServing(listener: (appId: string) => void): void;
  /** Closes all connections. */
  close(): void;
}

interface Open {
  readonly entry: AppDirectoryEntry;
  readonly connection: Connection;
  readonly calls: CallCount;
}

/**
 * Create the connections of a directory. When an entry changes, new calls get a new connection. The old one, like that of a removed app, is
 * closed once its running calls have ended.
 */
export function createAppConnections(options: AppConnectionsOptions): AppConnections {
  const { directory, connect, interceptors = () => [] } = options;
  const current = new Map<string, Open>();
  /** By app id: metric instruments are created once an app, even if its connection is replaced. */
  const ofApp = new Map<string, readonly Interceptor[]>();
  const retired = new Set<Connection>();
  const servingListeners: ((appId: string) => void)[] = [];

  const openFor = (appId: string): Open => {
    const known = current.get(appId);
    if (known !== undefined) {
      return known;
    }
    const entry = directory.lookUp(appId);
    const outer = ofApp.get(appId) ?? interceptors(appId);
    ofApp.set(appId, outer);
    const calls = createCallCount();
    const open = { entry, connection: connect(entry, [...outer, calls.interceptor]), calls };
    current.set(appId, open);
    const serving = () => {
      for (const notify of servingListeners) {
        notify(appId);
      }
    };
    open.connection.onServing?.(serving);
    serving();
    return open;
  };

  directory.onChange(() => {
    for (const [appId, { entry, connection, calls }] of current) {
      if (directory.appIds.includes(appId) && isDeepStrictEqual(directory.lookUp(appId), entry)) {
        continue;
      }
      current.delete(appId);
      retired.add(connection);
      calls.whenIdle(() => {
        retired.delete(connection);
        connection.close();
      });
    }
  });

  return {
    transportTo: (appId) => ({
      unary: async (...call) => openFor(appId).connection.transport.unary(...call),
      stream: async (...call) => openFor(appId).connection.transport.stream(...call),
    }),
    describe(service, mayList = () => true) {
      return Promise.all(
        directory.appIds.filter(mayList).map(async (appId) => {
          const { entry, connection } = openFor(appId);
          return {
            appId,
            target: entry.target,
            isDefault: appId === directory.defaultApp,
            workers: (await connection.workers?.(service)) ?? [],
          };
        }),
      );
    },
    onServing: (listener) => void servingListeners.push(listener),
    close() {
      for (const connection of [...retired, ...[...current.values()].map((open) => open.connection)]) {
        connection.close();
      }
      current.clear();
      retired.clear();
    },
  };
}

/** Counter of a connection's running calls. */
export interface CallCount {
  /** Counting client interceptor. A call counts once, not once an attempt. */
  readonly interceptor: Interceptor;
  /** Calls back once no call is running; at once if none is. */
  whenIdle(callback: () => void): void;
}

/** Create a counter. A call ends when its response or the stream's last message is read, or when it is aborted. */
export function createCallCount(): CallCount {
  let running = 0;
  let onIdle = () => {};

  const begin = (): (() => void) => {
    let ended = false;
    running++;
    return () => {
      if (ended) {
        return;
      }
      ended = true;
      running--;
      if (running === 0) {
        onIdle();
      }
    };
  };

  return {
    interceptor: (next) => async (request) => {
      const end = begin();
      try {
        const response = await next(request);
        if (!response.stream) {
          end();
          return response;
        }
        // Nothing is read after an abort.
        request.signal.addEventListener("abort", end, { once: true });
        return { ...response, message: watchStream(response.message, { done: end, failed: end, left: end }) };
      } catch (error) {
        end();
        throw error;
      }
    },
    whenIdle(callback) {
      if (running === 0) {
        callback();
      } else {
        onIdle = callback;
      }
    },
  };
}
