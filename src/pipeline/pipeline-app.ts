import { create, type DescService, isMessage, type Message } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext, Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { type AppClients, createAppClients } from "../app/app-clients.js";
import { callDeadline } from "../app/call-deadline.js";
import { type App, createApp } from "../app/create-app.js";
import { createEventStream } from "../app/event-stream.js";
import { logRejectedFile } from "../app/observe.js";
import {
  type GenerateStreamResponse,
  GenerateStreamResponseSchema,
  ImagePipelineService,
} from "../gen/throughline/v1/pipeline_pb.js";
import {
  type InferResponse,
  InferResponseSchema,
  InferStreamResponseSchema,
  TextToImageWorkerService,
} from "../gen/throughline/v1/worker_pb.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import { type Caller, callerOf, checkMayUse, sharingKeyOf } from "../mesh/access/callers.js";
import { isServiceMs, type LoadReport } from "../mesh/balance/replica-load.js";
import type { ConnectApp } from "../mesh/directory/app-connections.js";
import { createAppConnector } from "../mesh/directory/app-connector.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { internal } from "../mesh/errors/errors.js";
import type { ConnectionSecurity } from "../mesh/grpc/connection.js";
import { type NodeRequest, type NodeResponse, respondPlain } from "../mesh/port/node-handler.js";
import { createTraceResponseInterceptor, serverScope } from "../trace/server-span-interceptor.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { type GenerateCall, type GenerateContext, generate } from "./generate.js";
import { createInlineFallback } from "./inline-fallback.js";

/** What is served on a pipeline's port beside its own: services for those who may call it, and pages for anybody. */
export interface PipelineExtension {
  readonly services: readonly DescService[];
  /** Registers the implementations of `services`. */
  readonly routes: (router: ConnectRouter) => void;
  /** Run inside the pipeline's own, for all services. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Answers what is no RPC and no image, and says whether it did. */
  readonly httpRoute: (request: NodeRequest, response: NodeResponse) => boolean;
  /** Ends its streams; the pipeline begins to end. */
  readonly end: () => void;
}

/** What a pipeline is made of. */
export interface PipelineAppOptions {
  /** The worker apps that callers may name. */
  readonly directory: AppDirectory;
  /** Makes the connection to a worker app. @default gRPC to all workers of the entry's target, balanced by its policies */
  readonly connect?: ConnectApp | undefined;
  /** How the default connections of apps without security of their own are encrypted, and how the pipeline shows who it is. @default cleartext, and not at all */
  readonly workerSecurity?: ConnectionSecurity | undefined;
  /** Where images are kept for callers. Absent: they travel as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Base URL that callers reach the store's images under. @default the URL that the call came to */
  readonly publicUrl?: string | undefined;
  /** Whether a caller's `traceparent` header becomes the parent of `image-pipeline`; else it is linked. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /** Origins whose pages may call. @default none */
  readonly corsOrigins?: readonly string[] | undefined;
  /** Whether callers may ask at `/apps` how the workers are of the apps that they may use, addresses included. @default false */
  readonly showApps?: boolean | undefined;
  /** @default none */
  readonly extension?: PipelineExtension | undefined;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Name of the pipeline in traces, health and logs. */
export const pipelineName = "image-pipeline";

/** ImagePipeline as an app. */
export function createPipelineApp(options: PipelineAppOptions): App {
  const { directory, store, telemetry, corsOrigins, extension, logger } = options;
  const { tracer, propagator } = telemetry;
  const connectByGrpc = createAppConnector({
    security: options.workerSecurity,
    loadOf: loadOfWorker,
    onRejected: logRejectedFile(logger),
  });
  const connect = options.connect ?? connectByGrpc;
  const apps = createAppClients({
    directory,
    connect: (entry, interceptors) => connect(entry, [...interceptors, createInlineFallback()]),
    spanName: "call-inference-worker",
    telemetry,
  });

  const callOf = (call: HandlerContext): GenerateCall => ({
    ...callDeadline(call),
    checkMayUse: (appId) => checkMayUse(callerOf(call), appId),
    // Anybody may call a pipeline, so nobody is believed who says that it calls for somebody else.
    caller: sharingKeyOf(call, { trustHeader: false }),
    context: call.values.get(serverScope),
    get baseUrl() {
      return options.publicUrl ?? new URL(call.url).origin;
    },
  });

  const context = { directory, apps, tracer, propagator, store };
  const ownRoutes = pipelineRoutes({ context, callOf });
  const imageRoute = store && createImageRoute(store);

  return createApp({
    name: pipelineName,
    services: [ImagePipelineService],
    sideServices: extension?.services,
    routes(router) {
      ownRoutes(router);
      extension?.routes(router);
    },
    serverSpan: options.trustTraceparent ? "trust" : "link",
    interceptors: [createTraceResponseInterceptor([ImagePipelineService]), ...(extension?.interceptors ?? [])],
    httpRoute: (request, response) =>
      imageRoute?.(request, response) === true || extension?.httpRoute(request, response) === true,
    onDraining: extension?.end,
    ...(options.showApps && {
      callerRoutes: {
        [appsPath]: createAppsRoute(apps, (error) => logger.error({ err: error }, "the apps cannot be told of")),
      },
    }),
    corsOrigins,
    teardown: async () => apps.close(),
    telemetry,
    logger,
  });
}

/** What an answer of a worker tells of its queue and its speed. */
export function loadOfWorker(message: Message): LoadReport | undefined {
  if (isMessage(message, InferResponseSchema)) {
    return loadOfResult(message);
  }
  if (!isMessage(message, InferStreamResponseSchema)) {
    return undefined;
  }
  switch (message.event.case) {
    case "queued":
      // The position counts those that wait; the one that is generated is before them.
      return { ahead: message.event.value.position + 1 };
    case "result":
      return loadOfResult(message.event.value);
    default:
      return undefined;
  }
}

function loadOfResult({ timings }: InferResponse): LoadReport | undefined {
  const serviceMs = timings && timings.totalMs - timings.queueMs;
  // What a worker says is checked here, so that one which cannot count tells nothing of its speed.
  return serviceMs !== undefined && isServiceMs(serviceMs) ? { serviceMs } : undefined;
}

/** Path under which a pipeline says how its apps are. */
export const appsPath = "/apps";

/**
 * Answers `GET /apps` with `{"apps": [AppStatus, …]}`: the apps of the directory that the caller may use, and their workers as this pipeline
 * sees them, addresses included.
 *
 * @param onError told where it could not be said.
 */
export function createAppsRoute(apps: Pick<AppClients, "describe">, onError: (error: unknown) => void) {
  return (request: NodeRequest, response: NodeResponse, { mayUse }: Pick<Caller, "mayUse">): void => {
    if (request.method !== "GET") {
      respondPlain(response, 405, "the apps are asked for by GET", { allow: "GET" });
      return;
    }
    apps.describe(TextToImageWorkerService, mayUse).then(
      (told) => {
        response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store" });
        response.end(JSON.stringify({ apps: told }));
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
  /** What a request has to know of its call. */
  readonly callOf: (call: HandlerContext) => GenerateCall;
}

type StreamedEvent = Exclude<GenerateStreamResponse["event"], { case: undefined }>;

/** The pipeline's two rpcs: the same function, with and without progress. */
export function pipelineRoutes({ context, callOf }: PipelineRoutesOptions) {
  return (router: ConnectRouter): void => {
    router.service(ImagePipelineService, {
      generate: (request, call) => generate(request, callOf(call), context),
      generateStream: ({ request }, call) =>
        createEventStream<StreamedEvent, GenerateStreamResponse>({
          async run(emit) {
            if (request === undefined) {
              throw internal("the contract's rules were not checked");
            }
            return { case: "result", value: await generate(request, callOf(call), context, emit) };
          },
          toMessage: (event) => create(GenerateStreamResponseSchema, { event }),
          withoutPreview,
        }),
    });
  };
}

const nothing = new Uint8Array();

function withoutPreview(event: StreamedEvent): StreamedEvent | undefined {
  return event.case === "progress" && event.value.preview.length > 0
    ? { case: "progress", value: { ...event.value, preview: nothing, previewContentType: "" } }
    : undefined;
}
