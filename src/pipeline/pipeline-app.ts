import type { DescService } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext, Interceptor } from "@connectrpc/connect";
import type { Logger } from "pino";
import { createAppClients } from "../app/app-clients.js";
import { callDeadline } from "../app/call-deadline.js";
import { type App, createApp } from "../app/create-app.js";
import { logRefusedFile } from "../app/log-refused-file.js";
import { ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import { callerOf, checkMayUse } from "../mesh/access/callers.js";
import { sharingKeyOf } from "../mesh/access/sharing-key.js";
import type { ConnectApp } from "../mesh/directory/app-connections.js";
import { createAppConnector } from "../mesh/directory/app-connector.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import type { ConnectionSecurity } from "../mesh/grpc/connection.js";
import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { createTraceResponseInterceptor } from "../trace/trace-response-interceptor.js";
import { appsPath, createAppsRoute } from "./apps-route.js";
import type { GenerateCall } from "./generate.js";
import { createInlineSupport } from "./inline-support.js";
import { pipelineRoutes } from "./routes.js";
import { loadOfWorker } from "./worker-load.js";

/** What is served on a pipeline's port beside its own: services for those who may call it, and pages for anybody. */
export interface PipelineExtension {
  readonly services: readonly DescService[];
  /** Registers the implementations of `services`. */
  readonly routes: (router: ConnectRouter) => void;
  /** Run inside the pipeline's own, for all services. @default none */
  readonly interceptors?: readonly Interceptor[] | undefined;
  /** Answers what is no RPC and no picture, and says whether it did. */
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
  /** Where pictures are kept for callers. Absent: they travel as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Base URL that callers reach the store's pictures under. @default the URL that the call came to */
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
    onRefused: logRefusedFile(logger),
  });
  const apps = createAppClients({
    directory,
    connect: options.connect ?? connectByGrpc,
    spanName: "call-inference-worker",
    telemetry,
  });

  const callOf = (call: HandlerContext): GenerateCall => ({
    ...callDeadline(call),
    checkMayUse: (appId) => checkMayUse(callerOf(call), appId),
    // Anybody may call a pipeline, so nobody is believed who says that it calls for somebody else.
    caller: sharingKeyOf(call, { trustHeader: false }),
    context: call.values.get(serverScope),
    baseUrl: options.publicUrl ?? new URL(call.url).origin,
  });

  const context = { directory, apps, inline: createInlineSupport(), tracer, propagator, store };
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
