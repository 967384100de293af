import { setTimeout as delay } from "node:timers/promises";
import { create, type DescMethod, type DescService, isMessage, type Message } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext, Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type AppClients, createAppClients } from "../app/app-clients.js";
import { callDeadline } from "../app/call-deadline.js";
import { addLogFields } from "../app/call-log.js";
import { type App, createApp } from "../app/create-app.js";
import { createEventStream } from "../app/event-stream.js";
import type { HttpRoute } from "../app/http-route.js";
import { logRejectedFile } from "../app/observe.js";
import type { CallDemand } from "../calls/demand.js";
import type { GenerateEvent, PipelineCalls } from "../calls/pipeline-calls.js";
import { GenerateStreamResponseSchema, ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import {
  type InferResponse,
  InferResponseSchema,
  InferStreamResponseSchema,
  TextToImageWorkerService,
} from "../gen/throughline/v1/worker_pb.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import { optionHint } from "../image/option-hints.js";
import { countFailures } from "../image/store-failures.js";
import { type Caller, callerOf, checkMayUse, fairnessKeyOf } from "../mesh/access/callers.js";
import { isServiceMs, type LoadReport } from "../mesh/balance/replica-load.js";
import type { ConnectApp } from "../mesh/directory/app-connections.js";
import { createAppConnector } from "../mesh/directory/app-connector.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import type { ConnectionSecurity } from "../mesh/grpc/connection.js";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import type { HttpFront } from "../mesh/serve/http-front.js";
import { maxImageRequestBytes } from "../request-limits.js";
import { createTraceResponseInterceptor, serverScope } from "../trace/server-span-interceptor.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { type GenerateCall, type GenerateContext, generate } from "./generate.js";
import { inlineFallback } from "./inline-fallback.js";
import { createModelCatalog, type ModelCatalog } from "./models.js";
import { createPipelineCalls } from "./pipeline-calls.js";
import { createStatusRoute, type PipelineStatus, statusPath } from "./status-route.js";

/** Additional services, with access control, and HTTP routes, without, on a pipeline's port. */
export interface PipelineExtension {
  readonly services: readonly DescService[];
  /** Methods of `services` that take an image, whose requests are as large as those of `Generate`. @default none */
  readonly imageMethods?: readonly DescMethod[] | undefined;
  /** Registers the implementations of `services`. */
  readonly routes: (router: ConnectRouter) => void;
  /** Server interceptors for all services, inside the pipeline's own. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Handles requests that are neither RPC nor image. Returns whether it did. */
  readonly httpRoute: HttpRoute;
  /** Prepares it, before the pipeline serves. @default nothing */
  readonly start?: (() => Promise<void>) | undefined;
  /** Ends its streams. Called when the pipeline starts draining. */
  readonly end: () => void;
  /** Releases its resources, after the last call has ended. @default nothing */
  readonly close?: (() => Promise<void>) | undefined;
}

/** Options of {@link createPipelineApp}. */
export interface PipelineAppOptions {
  /** Worker apps. */
  readonly directory: AppDirectory;
  /**
   * Connects to a worker app, whose workers must accept DELIVERY_INLINE. @default gRPC to all workers of the entry's target, balanced by its
   * policies. Workers that reject DELIVERY_INLINE then get DATA_URI
   */
  readonly connect?: ConnectApp | undefined;
  /** Encryption and credentials of the default connections to apps without their own. @default cleartext, no credentials */
  readonly workerSecurity?: ConnectionSecurity | undefined;
  /** Image store. Absent: images are sent as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Public base URL of the store's images. @default the origin of the call's URL */
  readonly publicUrl?: string | undefined;
  /** Whether a caller's `traceparent` header becomes the parent of `image-pipeline`; else it is linked. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /** Origins with cross-origin access. @default none */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Whether `/apps` returns the status and addresses of the workers that a caller may use. @default false */
  readonly showApps?: boolean | undefined;
  /** Reads what `/status` returns besides the apps, where `showApps` is set. @default there is no `/status` */
  readonly readStatus?: (() => Promise<PipelineStatus>) | undefined;
  /** HTTP APIs of other protocols, such as `createOpenAiFront()`. @default none */
  readonly fronts?: readonly HttpFront[] | undefined;
  /** Each is made of the pipeline's own functions. @default none */
  readonly extensions?: readonly ((calls: PipelineCalls) => PipelineExtension)[] | undefined;
  /** Counts the calls of each app, for an autoscaler. @default they are not counted */
  readonly demand?: CallDemand | undefined;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Name of the pipeline in traces, health and logs. */
export const pipelineName = "image-pipeline";

/** Create the ImagePipeline app. */
export function createPipelineApp(options: PipelineAppOptions): App {
  const { directory, telemetry, corsOrigins, logger } = options;
  const store = options.store && countFailures(options.store, telemetry.meter);
  const connect =
    options.connect ??
    createAppConnector({
      security: options.workerSecurity,
      loadOf: loadOfWorker,
      fallback: inlineFallback,
      onRejected: logRejectedFile(logger),
    });
  const apps = createAppClients({
    directory,
    connect,
    spanName: "call-inference-worker",
    telemetry,
  });

  const callOf = (call: HandlerContext): GenerateCall => ({
    ...callDeadline(call),
    checkMayUse: (appId) => checkMayUse(callerOf(call), appId),
    // A pipeline's callers are end users, so their `throughline-caller` headers are ignored.
    caller: fairnessKeyOf(call, { trustHeader: false }),
    context: call.values.get(serverScope),
    get baseUrl() {
      return options.publicUrl ?? new URL(call.url).origin;
    },
    log: (fields) => addLogFields(call, fields),
    begin: (appId) => options.demand?.begin(appId) ?? (() => {}),
  });

  const context = { directory, apps, tracer: telemetry.tracer, store };
  const models = createModelCatalog({ directory, apps, logger });
  const ownRoutes = pipelineRoutes({ context, models, callOf });
  const calls = createPipelineCalls({ context, apps });
  const extensions = (options.extensions ?? []).map((extend) => extend(calls));
  const imageRoute = store && store.urlOf === undefined ? createImageRoute(store) : undefined;

  return createApp({
    name: pipelineName,
    services: [ImagePipelineService],
    methodRequestBytes: new Map(
      [
        ImagePipelineService.method.generate,
        ImagePipelineService.method.generateStream,
        ...extensions.flatMap(({ imageMethods = [] }) => imageMethods),
      ].map((method: DescMethod) => [method, maxImageRequestBytes]),
    ),
    jsonFieldHint: optionHint,
    sideServices: extensions.flatMap(({ services }) => services),
    routes(router) {
      ownRoutes(router);
      for (const { routes } of extensions) {
        routes(router);
      }
    },
    serverSpan: options.trustTraceparent ? "trust" : "link",
    untraced: [ImagePipelineService.method.listModels],
    interceptors: [
      createTraceResponseInterceptor([ImagePipelineService]),
      ...extensions.flatMap(({ interceptors = [] }) => interceptors),
    ],
    httpRoute: (request, response, log) =>
      extensions.some(({ httpRoute }) => httpRoute(request, response, log)) || imageRoute?.(request, response) === true,
    async setup() {
      for (const { start } of extensions) {
        await start?.();
      }
    },
    onDraining() {
      for (const { end } of extensions) {
        end();
      }
    },
    callerRoutes: options.showApps ? statusRoutes(apps, options) : undefined,
    fronts: options.fronts,
    corsOrigins,
    async teardown() {
      try {
        await closeExtensions(extensions);
      } finally {
        apps.close();
      }
    },
    telemetry,
    logger,
  });
}

/** Read queue position and service time from a worker's response. */
export function loadOfWorker(message: Message): LoadReport | undefined {
  if (isMessage(message, InferResponseSchema)) {
    return loadOfResult(message);
  }
  if (!isMessage(message, InferStreamResponseSchema)) {
    return undefined;
  }
  switch (message.event.case) {
    case "queued":
      // The position counts waiting requests; the running one is before them.
      return { ahead: message.event.value.position + 1 };
    case "result":
      return loadOfResult(message.event.value);
    default:
      return undefined;
  }
}

function loadOfResult({ timings }: InferResponse): LoadReport | undefined {
  const serviceMs = timings && timings.totalMs - timings.queueMs;
  // Invalid values of a faulty worker are ignored.
  return serviceMs !== undefined && isServiceMs(serviceMs) ? { serviceMs } : undefined;
}

/** The routes that show callers the state of the mesh. */
function statusRoutes(apps: AppClients, { readStatus, logger }: Pick<PipelineAppOptions, "readStatus" | "logger">) {
  const onError = (error: unknown) => logger.error({ err: error }, "the status of the apps cannot be read");
  return {
    [appsPath]: createAppsRoute(apps, onError),
    ...(readStatus !== undefined && { [statusPath]: createStatusRoute(apps, readStatus, onError) }),
  };
}

/** Path of the apps' status. */
export const appsPath = "/apps";

/**
 * Create the handler of `GET /apps`: `{"apps": [AppStatus, …]}` with the apps that the caller may use and their workers, addresses included.
 *
 * @param onError called if the status cannot be read.
 */
export function createAppsRoute(apps: Pick<AppClients, "describe">, onError: (error: unknown) => void) {
  return (request: NodeRequest, response: NodeResponse, { mayUse }: Pick<Caller, "mayUse">): void => {
    if (request.method !== "GET") {
      respondPlain(response, 405, "use GET", { allow: "GET" });
      return;
    }
    apps.describe(TextToImageWorkerService, mayUse).then(
      (statuses) => {
        response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
        response.end(JSON.stringify({ apps: statuses }));
      },
      (error: unknown) => {
        onError(error);
        respondPlain(response, 500, "internal error");
      },
    );
  };
}

/** Options of {@link pipelineRoutes}. */
export interface PipelineRoutesOptions {
  readonly context: GenerateContext;
  readonly models: ModelCatalog;
  /** Returns the properties of a call. */
  readonly callOf: (call: HandlerContext) => GenerateCall;
}

/** Register the pipeline's RPCs. Both of generation are the same function, with and without progress. */
export function pipelineRoutes({ context, models, callOf }: PipelineRoutesOptions) {
  return (router: ConnectRouter): void => {
    router.service(ImagePipelineService, {
      generate: (request, call) => generate(request, callOf(call), context),
      generateStream: ({ request }, call) =>
        createEventStream({
          request,
          run: (inner, emit: (event: GenerateEvent) => void) => generate(inner, callOf(call), context, emit),
          toMessage: (event) => create(GenerateStreamResponseSchema, { event }),
          withoutPreview: (progress) =>
            progress.preview.length > 0 ? { ...progress, preview: noBytes, previewContentType: "" } : undefined,
        }),
      listModels: async (_request, call) => ({ models: await models.list(callerOf(call).mayUse) }),
    });
  };
}

const noBytes = new Uint8Array();

/** Time that an extension may delay the end of those before it, in milliseconds. */
const closeMs = 1_000;

/** Closes the last extension first: it may use the ones before it, such as the jobs' database. */
async function closeExtensions(extensions: readonly PipelineExtension[]): Promise<void> {
  const [first, ...later] = extensions;
  const closing: Promise<void>[] = [];
  for (const { close } of later.toReversed()) {
    const closed = Promise.resolve(close?.());
    closing.push(closed);
    await Promise.race([closed.catch(() => {}), delay(closeMs, undefined, { ref: false })]);
  }
  await Promise.all([first?.close?.(), ...closing]);
}
