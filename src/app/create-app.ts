import { setMaxListeners } from "node:events";
import { createRegistry, type DescFile, type DescService, type Registry } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createRouterTransport,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import type { Logger } from "pino";
import { createHealth, ServingStatus } from "../connect-health/health.js";
import { reflectionRoutes } from "../connect-health/reflection.js";
import { type CallerHandler, withAccessControl } from "../mesh/access/access-control.js";
import { type Listening, listen } from "../mesh/port/listen.js";
import type { ListenLimits } from "../mesh/port/listen-limits.js";
import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
import { createConnectHandler, respondNotFound } from "../mesh/serve/connect-handler.js";
import { createValidationInterceptor } from "../mesh/serve/validation.js";
import { grpcStatusName } from "../otelconnect/errors.js";
import { createServerInterceptor } from "../otelconnect/interceptors.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import { methodName } from "../otelconnect/rpc-attributes.js";
import { createServerSpanInterceptor } from "../trace/server-span-interceptor.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { createCallLog } from "./call-log.js";
import { createLifecycle, createProbeRoute, createReadinessInterceptor, defaultGraceMs, endApp } from "./lifecycle.js";
import { createGuard, type Protection } from "./protection.js";

/** What makes a service an app. */
export interface AppOptions {
  /** Name in logs, errors and traces, such as `text-to-image-worker`. */
  readonly name: string;
  /** The app's own services: what health and reflection tell of. */
  readonly services: readonly DescService[];
  /** Registers the implementations of `services`. */
  readonly routes: (router: ConnectRouter) => void;
  /**
   * What the SERVER span of each call, which has the app's name, begins with. `own`: the app makes its spans itself. Else the span's
   * parent is the request's `trace_context`, where its contract has such a field, and then the caller's `traceparent` header, which is
   * trusted, linked or left unread. @default "link"
   */
  readonly serverSpan?: RemoteParent | "own" | undefined;
  /**
   * Services beside the app's own, which `routes` registers too: health and reflection tell of them, their rules are checked, and their calls
   * make no spans. @default none
   */
  readonly sideServices?: readonly DescService[] | undefined;
  /** Further server interceptors, outermost first; they run inside the span and before validation, so a rejected call passes them. */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Answers what is no RPC, images or a page, and says whether it did. Else, or absent: 404. */
  readonly httpRoute?: ((request: NodeRequest, response: NodeResponse) => boolean) | undefined;
  /** Answers what is no RPC at a path, such as `/apps`, for callers who were let in as for an RPC; others get 401, 403 or 429. */
  readonly callerRoutes?: Readonly<Record<string, CallerHandler>> | undefined;
  /** Largest request message, in bytes; above it RESOURCE_EXHAUSTED. @default 1,048,576 */
  readonly maxRequestBytes?: number | undefined;
  /**
   * Types that `google.protobuf.Any` may hold in JSON, beside extensions. @default those of the app's own services
   */
  readonly registry?: Registry | undefined;
  /** Origins whose pages may call, such as `http://localhost:5173`; `*` for any. @default none */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Gets the app ready; health says SERVING, and calls are taken, only after it. */
  readonly setup?: (hooks: SetupHooks) => Promise<void>;
  /** Called when the app begins to end: the place to end streams that only show something, which would else use up the grace. */
  readonly onDraining?: (() => void) | undefined;
  /** Frees what `setup` took. Runs after the last call ended, also when `setup` failed, and is given up after 3 s. */
  readonly teardown?: () => Promise<void>;
  /** The app's own tracing; it is shut down with the app. */
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** How a setup tells the app of what happens later. */
export interface SetupHooks {
  /** Whether what the app needs is there. While it is not, health says NOT_SERVING; what calls get then is the app's affair. */
  setAvailable(available: boolean): void;
}

/** Where an app listens, and who may call. */
export interface ServeOptions extends Protection {
  /** @default 127.0.0.1 */
  readonly host?: string;
  /** 0 takes a free one. */
  readonly port: number;
  /**
   * App id that callers must be allowed to use to get in at all. Absent: the app asks itself, with
   * {@link checkMayUse} and {@link callerOf}, about each app that a call is for.
   */
  readonly appId?: string | undefined;
  /** Whether JSON fields that the contract does not have are ignored; else they are INVALID_ARGUMENT. @default false */
  readonly ignoreUnknownFields?: boolean | undefined;
  /** What a connection may cost. */
  readonly limits?: ListenLimits | undefined;
}

/** An app that can be served once, or called in memory. */
export interface App {
  readonly name: string;
  /** Listens at once, then runs the setup. Resolves when the app is serving; rejects, with nothing left running, when it cannot. */
  serve(options: ServeOptions): Promise<RunningApp>;
  /** Runs the setup and gives a transport that calls the app in memory, through the same interceptors. For tests. */
  start(): Promise<InMemoryApp>;
}

/** An app that listens. */
export interface RunningApp {
  readonly name: string;
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  readonly port: number;
  /**
   * Drains: health says NOT_SERVING, new calls are rejected, running ones have `graceMs` to finish and are then cancelled. Then the last
   * spans leave. Resolves within `graceMs` and 4 s whatever hangs; never rejects.
   * @param options.graceMs milliseconds. @default 25,000
   */
  stop(options?: { readonly graceMs?: number }): Promise<void>;
}

/** An app that is called in memory. */
export interface InMemoryApp {
  readonly transport: Transport;
  /** A transport of its own for a caller with client interceptors, the outermost first. */
  connect(interceptors: readonly Interceptor[]): Transport;
  /** Cancels what runs, and ends the app. */
  stop(): Promise<void>;
}

/** No request of the built-in apps comes near it: the longest holds a prompt and a carrier. */
export const defaultMaxRequestBytes = 1_048_576;

/** Makes an app of services: one port, health, probes, reflection, validation, tracing, readiness and drain come with it. */
export function createApp(options: AppOptions): App {
  const { name, services, telemetry, logger, serverSpan = "link" } = options;
  const allServices = [...services, ...(options.sideServices ?? [])];
  const health = createHealth({ services: allServices.map((service) => service.typeName) });
  const shutdown = new AbortController();
  // Every running call listens to it.
  setMaxListeners(0, shutdown.signal);
  const abortCalls = () => shutdown.abort(new ConnectError(`${name} is shutting down`, Code.Unavailable));
  const lifecycle = createLifecycle((state) => {
    if (state === "draining") {
      health.close();
      options.onDraining?.();
    } else {
      health.setAll(state === "serving" ? ServingStatus.SERVING : ServingStatus.NOT_SERVING);
    }
    logger.info({ state }, `${name} is ${state}`);
  });
  const end = () => endApp({ name, teardown: options.teardown, telemetry, logger });
  const own = new Set(services.map((service) => service.typeName));
  const { tracer, meter, propagator } = telemetry;
  const unread = meter.createCounter("throughline.calls.unread", {
    unit: "{call}",
    description: "Unary calls whose request could not be read, or whose caller was not let in, by code.",
  });
  const probeRoute = createProbeRoute(() => lifecycle.state);
  const interceptors = [
    createCallLog({ logger, services }),
    serverSpan === "own"
      ? createServerInterceptor({ spans: false, meter, filter: ({ service }) => own.has(service.typeName) })
      : createServerSpanInterceptor({ tracer, meter, propagator, name, services, parent: serverSpan }),
    ...(options.interceptors ?? []),
    createReadinessInterceptor(name, allServices, lifecycle),
    createValidationInterceptor({ services: allServices }),
  ];

  const start = async (): Promise<void> => {
    try {
      await options.setup?.({ setAvailable: (available) => lifecycle.enter(available ? "serving" : "interrupted") });
    } catch (error) {
      lifecycle.enter("draining");
      await end();
      throw error;
    }
    lifecycle.enter("serving");
  };

  const listenOn = async ({
    host = "127.0.0.1",
    port,
    limits,
    ignoreUnknownFields,
    ...protection
  }: ServeOptions): Promise<Listening> => {
    const { address, accessControl } = await createGuard({ host, logger, ...protection });
    const callerRoutes = new Map(
      Object.entries(options.callerRoutes ?? {}).map(([path, handle]) => [
        path,
        withAccessControl(accessControl, handle),
      ]),
    );
    return listen({
      ...limits,
      host: address,
      port,
      ...(protection.tls && { tls: protection.tls }),
      handler: createConnectHandler({
        routes(router) {
          options.routes(router);
          health.routes(router);
          if (protection.reflection !== "off") {
            reflectionRoutes(allServices)(router);
          }
        },
        accessControl,
        interceptors,
        readMaxBytes: options.maxRequestBytes ?? defaultMaxRequestBytes,
        registry: options.registry ?? registryOf(allServices),
        ignoreUnknownFields,
        onUndecodable(method, code) {
          const fields = { method: methodName(method), code: grpcStatusName(code) };
          logger.info(fields, "call rejected before its request was read");
          unread.add(1, { "rpc.method": fields.method, "rpc.response.status_code": fields.code });
        },
        shutdownSignal: shutdown.signal,
        onInternalError: (error, path) => logger.error({ err: error, path }, "an answer could not be made"),
        fallback(request, response) {
          const callerRoute = callerRoutes.get(request.url?.split("?", 1)[0] ?? "");
          if (callerRoute !== undefined) {
            callerRoute(request, response);
          } else if (!probeRoute(request, response) && options.httpRoute?.(request, response) !== true) {
            respondNotFound(request, response);
          }
        },
        ...(options.corsOrigins && { cors: { origins: options.corsOrigins } }),
      }),
    });
  };

  return {
    name,
    async serve(serveOptions) {
      const listening = await listenOn(serveOptions);
      try {
        await start();
      } catch (error) {
        await listening.stop({ graceMs: 0 });
        throw error;
      }
      logger.info({ url: listening.url }, `${name} is ready`);
      return {
        name,
        url: listening.url,
        port: listening.port,
        async stop({ graceMs = defaultGraceMs } = {}) {
          lifecycle.enter("draining");
          await listening.stop({ graceMs, cancel: abortCalls });
          await end();
        },
      };
    },
    async start() {
      await start();
      const connect = (ofCaller: readonly Interceptor[]) =>
        createRouterTransport(options.routes, {
          router: { interceptors, shutdownSignal: shutdown.signal },
          transport: { interceptors: [...ofCaller] },
        });
      return {
        transport: connect([]),
        connect,
        async stop() {
          lifecycle.enter("draining");
          abortCalls();
          await end();
        },
      };
    },
  };
}

/** All types of the files that define the services, and of those that they import. */
function registryOf(services: readonly DescService[]): Registry {
  const files = new Set<DescFile>();
  const add = (file: DescFile) => {
    if (!files.has(file)) {
      files.add(file);
      file.dependencies.forEach(add);
    }
  };
  for (const { file } of services) {
    add(file);
  }
  return createRegistry(...files);
}
