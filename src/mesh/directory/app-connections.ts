import { isDeepStrictEqual } from "node:util";
import type { Interceptor, Transport } from "@connectrpc/connect";
import type { Connection, WorkerStatus } from "../grpc/connection.js";
import type { AppDirectory, AppDirectoryEntry } from "./app-directory.js";

/** Options of {@link createAppConnections}. */
export interface AppConnectionsOptions {
  readonly directory: AppDirectory;
  readonly connect: ConnectApp;
  /** Client interceptors of an app's calls, the outermost first, made once an app. @default none */
  readonly interceptors?: ((appId: string) => readonly Interceptor[]) | undefined;
}

/** Makes the connection to an app, whose transport runs these client interceptors once a call, the outermost first. */
export type ConnectApp = (entry: AppDirectoryEntry, interceptors: readonly Interceptor[]) => Connection;

/** One app of the directory, as its connection sees it. */
export interface AppStatus {
  readonly appId: string;
  /** gRPC target of all its workers. */
  readonly target: string;
  /** Whether the empty id means it. */
  readonly isDefault: boolean;
  /** In the order of the address list. Empty where its name has no address, or the connection is not one over gRPC. */
  readonly workers: readonly WorkerStatus[];
}

/** Connections to the apps of a directory: one an app, made with its first call. */
export interface AppConnections {
  /**
   * A transport to an app, wherever the directory says that it is when a call begins. Once the app is gone, calls fail with NOT_FOUND.
   *
   * @param appId an app's own id, not the empty one.
   */
  transportTo(appId: string): Transport;
  /**
   * Says how the apps are. Connects to those that it tells of.
   *
   * @param service full name of the service whose health counts.
   * @param mayTell whether to tell of an app at all. @default of all
   */
  describe(service: string, mayTell?: (appId: string) => boolean): Promise<readonly AppStatus[]>;
  /** Closes all connections. */
  close(): void;
}

interface Open {
  readonly entry: AppDirectoryEntry;
  readonly connection: Connection;
  readonly calls: CallCount;
}

/**
 * Creates the connections of a directory. When an entry has changed, new calls get a new connection; the old one, and that of an app which
 * is gone, is closed once its running calls have ended, with all their attempts.
 */
export function createAppConnections(options: AppConnectionsOptions): AppConnections {
  const { directory, connect, interceptors = () => [] } = options;
  const current = new Map<string, Open>();
  /** Instruments are made once an app, whatever becomes of its connection. */
  const ofApp = new Map<string, readonly Interceptor[]>();
  const retired = new Set<Connection>();

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
    describe(service, mayTell = () => true) {
      return Promise.all(
        directory.appIds.filter(mayTell).map(async (appId) => {
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
    close() {
      for (const connection of [...retired, ...[...current.values()].map((open) => open.connection)]) {
        connection.close();
      }
      current.clear();
      retired.clear();
    },
  };
}

/** Counts the calls of a connection that run. */
export interface CallCount {
  /** Client interceptor that counts; the outermost, so that all attempts of a call are one. */
  readonly interceptor: Interceptor;
  /** Calls back once no call runs, at once where none does. */
  whenIdle(callback: () => void): void;
}

/** Makes a count. A call runs from its beginning until its answer, or its stream's last message, is read, or until it is aborted. */
export function createCallCount(): CallCount {
  let running = 0;
  let onIdle = () => {};

  const enter = (): (() => void) => {
    let left = false;
    running++;
    return () => {
      if (left) {
        return;
      }
      left = true;
      running--;
      if (running === 0) {
        onIdle();
      }
    };
  };

  return {
    interceptor: (next) => async (request) => {
      const leave = enter();
      try {
        const response = await next(request);
        if (!response.stream) {
          leave();
          return response;
        }
        // Nobody reads on after an abort.
        request.signal.addEventListener("abort", leave, { once: true });
        return { ...response, message: untilRead(response.message, leave) };
      } catch (error) {
        leave();
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

async function* untilRead<T>(messages: AsyncIterable<T>, leave: () => void): AsyncGenerator<T> {
  try {
    yield* messages;
  } finally {
    leave();
  }
}
