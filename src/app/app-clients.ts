import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { type Counter, trace } from "@opentelemetry/api";
import { connectApp } from "../mesh/balance/balanced-connection.js";
import { attemptListener } from "../mesh/balance/call-attempt.js";
import { type AppStatus, createAppConnections } from "../mesh/directory/app-connections.js";
import type { AppDirectory, AppDirectoryEntry } from "../mesh/directory/app-directory.js";
import type { Connection } from "../mesh/grpc/connection.js";
import { interceptTransport } from "../mesh/grpc/intercept-transport.js";
import { createClientSpanInterceptor } from "../trace/client-span-interceptor.js";
import { rpcClientCalls } from "../trace/rpc-calls.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { countAttempt, recordAttempt } from "./attempt-events.js";

/** Makes the connection to an app of the directory. */
export type ConnectApp = (entry: AppDirectoryEntry) => Connection;

/** Options of {@link createAppClients}. */
export interface AppClientsOptions {
  /** The apps that may be called. */
  readonly directory: AppDirectory;
  /** @default gRPC to all workers of the entry's target, balanced by its policies */
  readonly connect?: ConnectApp | undefined;
  /** Whether each call gets a span of its own here; false for an app that makes it itself, and active while it calls. @default true */
  readonly callSpans?: boolean | undefined;
  /** Tracing of the app that calls. */
  readonly telemetry: Pick<Telemetry, "tracer" | "propagator" | "meter">;
}

/** Typed clients of other apps, found by app id: one connection an app, made when it is first asked for. */
export interface AppClients {
  /**
   * A typed client of an app's service. Each call makes a span `call-<name of the app>` below the active one, and takes the trace along.
   * Give each call `onwardCall(call)`, so that it ends when the call does that it was made for.
   *
   * @param appId such as `local/image-pipeline`; empty means the directory's default.
   * @throws ConnectError NOT_FOUND, naming the ids that are known.
   */
  client<Service extends DescService>(appId: string, service: Service): Client<Service>;
  /** How the apps are of which `mayTell` says that it may be told, by the health of a service. */
  describe(service: DescService, mayTell: (appId: string) => boolean): Promise<readonly AppStatus[]>;
  /** Closes the connections. */
  close(): void;
}

/** Creates the clients of the apps in a directory. */
export function createAppClients(options: AppClientsOptions): AppClients {
  const { directory, connect = connectApp, callSpans = true, telemetry } = options;
  const connections = createAppConnections({ directory, connect });
  const attempts = telemetry.meter.createCounter("throughline.call.attempts", {
    unit: "{attempt}",
    description: "Attempts of calls of other apps; one more than a call has retries.",
  });
  const create = (appId: string): readonly Interceptor[] => [
    ...(callSpans
      ? [createClientSpanInterceptor({ ...telemetry, name: `call-${appId.split("/").at(-1)}`, appId })]
      : []),
    recordAttempts(appId, attempts),
    rpcClientCalls(telemetry, appId),
  ];
  /** By app id; made once, because instruments are. */
  const interceptors = new Map<string, readonly Interceptor[]>();
  const interceptorsOf = (appId: string): readonly Interceptor[] => {
    const known = interceptors.get(appId) ?? create(appId);
    interceptors.set(appId, known);
    return known;
  };
  return {
    client(wanted, service) {
      const { appId } = directory.lookUp(wanted);
      return createClient(service, interceptTransport(connections.transportTo(appId), interceptorsOf(appId)));
    },
    describe: (service, mayTell) => connections.describe(service.typeName, mayTell),
    close: connections.close,
  };
}

/** Counts each attempt of a call, and writes it as an event on the call's span, which is the active one. */
function recordAttempts(appId: string, attempts: Counter): Interceptor {
  return (next) => (request) => {
    const span = trace.getActiveSpan();
    request.contextValues.set(attemptListener, (attempt) => {
      if (span !== undefined) {
        recordAttempt(span, attempt);
      }
      countAttempt(attempts, appId, attempt);
    });
    return next(request);
  };
}
