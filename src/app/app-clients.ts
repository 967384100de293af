import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { trace } from "@opentelemetry/api";
import { connectApp } from "../mesh/balance/balanced-connection.js";
import { attemptListener } from "../mesh/balance/call-attempt.js";
import { type AppStatus, createAppConnections } from "../mesh/directory/app-connections.js";
import type { AppDirectory, AppDirectoryEntry } from "../mesh/directory/app-directory.js";
import type { Connection } from "../mesh/grpc/connection.js";
import { interceptTransport } from "../mesh/grpc/intercept-transport.js";
import { createClientSpanInterceptor } from "../trace/client-span-interceptor.js";
import { rpcClientSpans } from "../trace/rpc-spans.js";
import type { Telemetry } from "../trace/sdk/telemetry.js";
import { recordAttempt } from "./attempt-events.js";

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
  readonly telemetry: Pick<Telemetry, "tracer" | "propagator" | "rpcSpans">;
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
  const interceptorsOf = (appId: string): readonly Interceptor[] => [
    ...(callSpans
      ? [createClientSpanInterceptor({ ...telemetry, name: `call-${appId.split("/").at(-1)}`, appId })]
      : []),
    attemptEvents,
    ...rpcClientSpans(telemetry),
  ];
  return {
    client(wanted, service) {
      const { appId } = directory.lookUp(wanted);
      return createClient(service, interceptTransport(connections.transportTo(appId), interceptorsOf(appId)));
    },
    describe: (service, mayTell) => connections.describe(service.typeName, mayTell),
    close: connections.close,
  };
}

/** Writes each attempt of a call as an event on the call's span, which is the active one. */
const attemptEvents: Interceptor = (next) => (request) => {
  const span = trace.getActiveSpan();
  if (span !== undefined) {
    request.contextValues.set(attemptListener, (attempt) => recordAttempt(span, attempt));
  }
  return next(request);
};
