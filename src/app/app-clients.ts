import type { DescService } from "@bufbuild/protobuf";
import { type Client, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { type Attributes, type Counter, type Span, trace } from "@opentelemetry/api";
import { attemptListener, type CallAttempt } from "../mesh/balance/attempt.js";
import { connectApp } from "../mesh/balance/connect-app.js";
import { type AppStatus, type ConnectApp, createAppConnections } from "../mesh/directory/app-connections.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { grpcStatusName } from "../otelconnect/errors.js";
import { createAppCallInterceptor, untraced } from "../trace/app-call-interceptor.js";
import { rpcStatusCode } from "../trace/span-scope.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";

/** Options of {@link createAppClients}. */
export interface AppClientsOptions {
  /** Apps that can be called. */
  readonly directory: AppDirectory;
  /** Opens the connection to an app. @default gRPC to all replicas of the entry's target, balanced by its policies */
  readonly connect?: ConnectApp | undefined;
  /** Name of the CLIENT span of each call. @default `call-<name of the app>` */
  readonly spanName?: string | undefined;
  /** Telemetry of the calling app. */
  readonly telemetry: Pick<Telemetry, "tracer" | "propagator" | "meter">;
}

/** Typed clients of other apps, by app id. Each app has one connection, opened on first use. */
export interface AppClients {
  /**
   * Returns a typed client of an app's service. Each call creates a span `call-<name of the app>` under the active span and propagates
   * the trace context. Pass `onwardCall(call)` to each call, so that it ends with the incoming call.
   *
   * @param appId such as `local/image-pipeline`; empty selects the directory's default.
   * @throws ConnectError NOT_FOUND, with the known ids in the message.
   */
  client<Service extends DescService>(appId: string, service: Service): Client<Service>;
  /** Reports the health of a service for each app that `mayList` accepts. */
  describe(service: DescService, mayList: (appId: string) => boolean): Promise<readonly AppStatus[]>;
  /** Calls back with the app id when an app's connection is created or replaced, and whenever one of its replicas becomes healthy. */
  onServing(listener: (appId: string) => void): void;
  /** Closes the connections. */
  close(): void;
}

/** Creates clients of the apps in a directory. */
export function createAppClients(options: AppClientsOptions): AppClients {
  const { directory, connect = connectByGrpc, telemetry } = options;
  const attempts = telemetry.meter.createCounter("throughline.call.attempts", {
    unit: "{attempt}",
    description: "Attempts of calls to other apps: 1 + retries for each call.",
  });
  const connections = createAppConnections({
    directory,
    connect,
    interceptors: (appId) => [
      createAppCallInterceptor({ ...telemetry, name: options.spanName ?? `call-${appId.split("/").at(-1)}`, appId }),
      recordAttempts(appId, attempts),
    ],
  });
  const clientsOf = new Map<string, ClientCache>();
  return {
    client(wanted, service) {
      const { appId } = directory.lookUp(wanted);
      const clients = clientsOf.get(appId) ?? createClientCache(connections.transportTo(appId));
      clientsOf.set(appId, clients);
      return clients.client(service);
    },
    describe: (service, mayList) => connections.describe(service.typeName, mayList),
    onServing: connections.onServing,
    close: connections.close,
  };
}

/** Clients of one app, one per service. */
interface ClientCache {
  client<Service extends DescService>(service: Service): Client<Service>;
}

function createClientCache(transport: Transport): ClientCache {
  const known: { readonly service: DescService; readonly client: unknown }[] = [];
  return {
    client(service) {
      const isOurs = (
        entry: (typeof known)[number],
      ): entry is { service: typeof service; client: Client<typeof service> } => entry.service === service;
      const found = known.find(isOurs);
      if (found !== undefined) {
        return found.client;
      }
      const client = createClient(service, transport);
      known.push({ service, client });
      return client;
    },
  };
}

const connectByGrpc: ConnectApp = (entry, interceptors) => connectApp({ ...entry, interceptors });

/** Counts each attempt of a call and records it as an event on the active span. Calls that belong to no request are left out. */
function recordAttempts(appId: string, attempts: Counter): Interceptor {
  return (next) => (request) => {
    if (request.contextValues.get(untraced)) {
      return next(request);
    }
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

/**
 * Records a finished attempt as an event on its call's span.
 *
 * The event `attempt` has `attempt.number`, `server.address`, `server.port`, `rpc.response.status_code`, and `attempt.retry_reason` if
 * another attempt followed.
 */
export function recordAttempt(span: Span, { number, address, port, code, retryReason }: CallAttempt): void {
  const attributes: Attributes = {
    "attempt.number": number,
    "server.address": address,
    ...(port !== undefined && { "server.port": port }),
    [rpcStatusCode]: statusOf(code),
    ...(retryReason !== undefined && { "attempt.retry_reason": retryReason }),
  };
  span.addEvent("attempt", attributes);
}

/** Counts an attempt by app, status code and retry reason. */
export function countAttempt(attempts: Counter, appId: string, { code, retryReason }: CallAttempt): void {
  attempts.add(1, {
    "app.id": appId,
    "rpc.status_code": statusOf(code),
    ...(retryReason !== undefined && { "attempt.retry_reason": retryReason }),
  });
}

function statusOf(code: CallAttempt["code"]): string {
  return code === undefined ? "OK" : grpcStatusName(code);
}
