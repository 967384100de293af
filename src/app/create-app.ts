import { setMaxListeners } from "node:events";
import {
  createRegistry,
  type DescField,
  type DescFile,
  type DescMethod,
  type DescService,
  type Registry,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  createRouterTransport,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { trace } from "@opentelemetry/api";
import type { Logger } from "pino";
import { createHealth, ServingStatus } from "../connect-health/health.js";
import { reflectionRoutes } from "../connect-health/reflection.js";
import { type CallerHandler, reportForeignHost, withAccessControl } from "../mesh/access/access-control.js";
import type { HostCheck } from "../mesh/access/host-check.js";
import { type Listening, listen } from "../mesh/port/listen.js";
import type { ListenLimits } from "../mesh/port/listen-limits.js";
import type { NodeRequest } from "../mesh/port/node-handler.js";
import { createConnectHandler } from "../mesh/serve/connect-handler.js";
import { frontName, type HttpFront } from "../mesh/serve/http-front.js";
import { respondNotFound } from "../mesh/serve/not-found.js";
import { createValidationInterceptor } from "../mesh/serve/validation.js";
import { grpcStatusName } from "../otelconnect/errors.js";
import { createServerInterceptor } from "../otelconnect/interceptors.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import { methodName } from "../otelconnect/rpc-attributes.js";
import { createServerSpanInterceptor, serverScope } from "../trace/server-span-interceptor.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { addLogFields, createCallLog } from "./call-log.js";
import type { HttpRoute, RouteLog } from "./http-route.js";
import { createLifecycle, createProbeRoute, createReadinessInterceptor, defaultGraceMs, endApp } from "./lifecycle.js";
import { createGuard, type Protection } from "./protection.js";

/** Options of {@link createApp}. */
export interface AppOptions {
  /** Name in logs, errors and traces, such as `text-to-image-worker`. */
  readonly name: string;
  /** The app's own services. Health and reflection list them. */
  readonly services: readonly DescService[];
  /** Registers the implementations of `services`. */
  readonly routes: (router: ConnectRouter) => void;
  /**
   * Parent of each call's SERVER span, which is named after the app. The request's field `trace_context` takes precedence if it names a
   * valid parent. Otherwise this option applies to the `traceparent` header: `trust`, `link` or `ignore`. `own`: the app creates its
   * spans itself. @default "link"
   */
  readonly serverSpan?: RemoteParent | "own" | undefined;
  /** Methods of `services` whose calls create no span, such as those that clients poll. @default none */
  readonly untraced?: readonly DescMethod[] | undefined;
  /**
   * Additional services that `routes` registers. Health and reflection list them, and their requests are validated. Their calls create no
   * spans. @default none
   */
  readonly sideServices?: readonly DescService[] | undefined;
  /** Additional server interceptors, outermost first. They run inside the span and before validation, so they also see invalid requests. */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Handles HTTP requests other than RPCs, such as images or a page. Returns whether it did; if not, or if absent, the response is 404. */
  readonly httpRoute?: HttpRoute | undefined;
  /** HTTP handlers by path, such as `/apps`, with the same access control as RPCs: 401, 403 or 429. */
  readonly callerRoutes?: Readonly<Record<string, CallerHandler>> | undefined;
  /** HTTP APIs of other protocols over the app's services, such as OpenAI's. @default none */
  readonly fronts?: readonly HttpFront[] | undefined;
  /** Maximum size of a request message, in bytes; a larger one gets RESOURCE_EXHAUSTED. @default 1,048,576 */
  readonly maxRequestBytes?: number | undefined;
  /** Other limits than `maxRequestBytes`, by method of `services` and `sideServices`, such as one that takes an image. @default none */
  readonly methodRequestBytes?: ReadonlyMap<DescMethod, number> | undefined;
  /**
   * Types for `google.protobuf.Any` and extensions in JSON. @default the types of the app's own services
   */
  readonly registry?: Registry | undefined;
  /** Says what a field takes, for the error of a JSON value that does not fit the field's type. @default Connect's message alone */
  readonly jsonFieldHint?: ((field: DescField) => string | undefined) | undefined;
  /** Allowed CORS origins, such as `http://localhost:5173`; `*` for any. @default none */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Prepares the app. Until it resolves, health is NOT_SERVING and the app rejects calls. */
  readonly setup?: (hooks: SetupHooks) => Promise<void>;
  /** Called when draining begins. End monitoring streams here; otherwise they use up the grace period. */
  readonly onDraining?: (() => void) | undefined;
  /** Releases the resources of `setup`. Runs after the last call has ended, also if `setup` failed. Timeout: 3 s. */
  readonly teardown?: () => Promise<void>;
  /** The app's own telemetry. The app shuts it down. */
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Hooks for a setup to report later changes. */
export interface SetupHooks {
  /** Reports whether the app's dependencies are available. If not, health is NOT_SERVING; the app itself rejects the calls. */
  setAvailable(available: boolean): void;
}

/** Listening address and access control of an app. */
export interface ServeOptions extends Protection {
  /** @default 127.0.0.1 */
  readonly host?: string;
  /** 0 selects a free port. */
  readonly port: number;
  /**
   * App id that every caller must be allowed to use. If absent, the app checks each call itself with {@link checkMayUse} and
   * {@link callerOf}.
   */
  readonly appId?: string | undefined;
  /** Ignores unknown JSON fields instead of rejecting them with INVALID_ARGUMENT. @default false */
  readonly ignoreUnknownFields?: boolean | undefined;
  /**
   * Host names whose web pages may call, besides `corsOrigins`; other pages get 403. Protects a server without access control on loopback
   * from pages that use DNS rebinding. @default all
   */
  readonly pageHosts?: HostCheck | undefined;
  /** Limits per connection. */
  readonly limits?: ListenLimits | undefined;
}

/** An app that can be served once or called in memory. */
export interface App {
  readonly name: string;
  /** Listens, then runs the setup. Resolves when the app is SERVING. On failure, stops everything and rejects. */
  serve(options: ServeOptions): Promise<RunningApp>;
  /** Runs the setup and returns a transport that calls the app in memory, through the same interceptors. For tests. */
  start(): Promise<InMemoryApp>;
}

/** An app that listens on a port. */
export interface RunningApp {
  readonly name: string;
  /** Base URL, such as `http://127.0.0.1:50052`. */
  readonly url: string;
  readonly port: number;
  /**
   * Stops gracefully. Sets health to NOT_SERVING, rejects new calls, cancels running calls after `graceMs`, then exports the remaining
   * spans. Resolves within `graceMs` + 4 s; never rejects.
   * @param options.graceMs milliseconds. @default 25,000
   */
  stop(options?: { readonly graceMs?: number }): Promise<void>;
}

/** An app called in memory. */
export interface InMemoryApp {
  readonly transport: Transport;
  /** Creates a transport with client interceptors, outermost first. */
  connect(interceptors: readonly Interceptor[]): Transport;
  /** Cancels running calls and stops the app. */
  stop(): Promise<void>;
}

/** Default maximum request size, in bytes. Requests without an image hold only a prompt and a carrier, and are far smaller. */
export const defaultMaxRequestBytes = 1_048_576;

/** Creates an app with health, probes, reflection, validation, tracing and graceful shutdown. */
export function createApp(options: AppOptions): App {
  const { name, services, telemetry, logger, serverSpan = "link" } = options;
  const allServices = [...services, ...(options.sideServices ?? [])];
  const health = createHealth({ services: allServices.map((service) => service.typeName) });
  const shutdown = new AbortController();
  // Every running call adds a listener.
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
    description: "Unary calls rejected by access control or because the request could not be decoded, by code.",
  });
  const probeRoute = createProbeRoute(() => lifecycle.state);
  const interceptors = [
    createCallLog({ logger, services }),
    serverSpan === "own"
      ? createServerInterceptor({ spans: false, meter, filter: ({ service }) => own.has(service.typeName) })
      : createServerSpanInterceptor({
          tracer,
          meter,
          propagator,
          name,
          services,
          untraced: options.untraced,
          parent: serverSpan,
        }),
    nameFront,
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
    pageHosts,
    ...protection
  }: ServeOptions): Promise<Listening> => {
    const guard = await createGuard({ host, logger, ...protection });
    const { address, accessControl } = guard;
    const callerRoutes = new Map(
      Object.entries(options.callerRoutes ?? {}).map(([path, handle]) => [
        path,
        withAccessControl(accessControl, path, handle),
      ]),
    );
    const logOf = (request: NodeRequest): RouteLog => ({
      reportForeignHost: (route) => reportForeignHost(accessControl, request, { route }),
    });
    const listening = await listen({
      ...limits,
      host: address,
      port,
      tls: protection.tls,
      onTlsRejected: guard.onTlsRejected,
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
        methodReadMaxBytes: options.methodRequestBytes,
        registry: options.registry ?? registryOf(allServices),
        ignoreUnknownFields,
        jsonFieldHint: options.jsonFieldHint,
        onUndecodable(method, code) {
          const fields = { method: methodName(method), code: grpcStatusName(code) };
          logger.info(fields, "call rejected before its request was read");
          unread.add(1, { "rpc.method": fields.method, "rpc.response.status_code": fields.code });
        },
        fronts: options.fronts,
        onFrontRejected(front, code) {
          const fields = { front, code: grpcStatusName(code) };
          logger.info(fields, "request rejected by a front");
          unread.add(1, { "throughline.front": front, "rpc.response.status_code": fields.code });
        },
        shutdownSignal: shutdown.signal,
        onInternalError: (error, path) => logger.error({ err: error, path }, "a response could not be sent"),
        fallback(request, response) {
          const callerRoute = callerRoutes.get(request.url?.split("?", 1)[0] ?? "");
          if (callerRoute !== undefined) {
            callerRoute(request, response);
          } else if (
            !probeRoute(request, response) &&
            options.httpRoute?.(request, response, logOf(request)) !== true
          ) {
            respondNotFound(request, response);
          }
        },
        pageHosts,
        cors: options.corsOrigins && { origins: options.corsOrigins },
      }),
    });
    return { ...listening, stop: (stopOptions) => listening.stop(stopOptions).finally(guard.close) };
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

/** Names the front of a call on its span and in its log line. */
const nameFront: Interceptor = (next) => (request) => {
  const front = request.contextValues.get(frontName);
  if (front !== undefined) {
    trace.getSpan(request.contextValues.get(serverScope))?.setAttribute("throughline.front", front);
    addLogFields({ values: request.contextValues }, { front });
  }
  return next(request);
};

/** All types in the files that define the services and in their imports. */
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
