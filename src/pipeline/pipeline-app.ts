import type { HandlerContext } from "@connectrpc/connect";
import type { Logger } from "pino";
import { callDeadline } from "../app/call-deadline.js";
import { type App, createApp } from "../app/create-app.js";
import { ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import type { AppDirectory, AppDirectoryEntry } from "../mesh/app-directory.js";
import { createChannel } from "../mesh/grpc-channel.js";
import { createGrpcTransport } from "../mesh/grpc-transport.js";
import { sharingKeyOf } from "../mesh/sharing-key.js";
import type { Telemetry } from "../trace/sdk/telemetry.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import type { GenerateCall } from "./generate.js";
import { pipelineRoutes } from "./routes.js";
import { createWorkerClients, type WorkerConnection } from "./worker-clients.js";

/** What a pipeline is made of. */
export interface PipelineAppOptions {
  /** The worker apps that callers may name. */
  readonly directory: AppDirectory;
  /** Makes the connection to a worker app. @default a gRPC channel to the entry's target */
  readonly connect?: ((entry: AppDirectoryEntry) => WorkerConnection) | undefined;
  /** Where pictures are kept for callers. Absent: they travel as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Base URL that callers reach the store's pictures under. @default the URL that the call came to */
  readonly publicUrl?: string | undefined;
  /** Whether a caller's `traceparent` header becomes the parent of `image-pipeline`; else it is linked. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /** Origins whose pages may call. @default none */
  readonly corsOrigins?: readonly string[] | undefined;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Name of the pipeline in traces, health and logs. */
export const pipelineName = "image-pipeline";

function connectByGrpc({ target }: AppDirectoryEntry): WorkerConnection {
  const channel = createChannel({ target });
  return { transport: createGrpcTransport({ channel }), close: channel.close };
}

/** ImagePipeline as an app. */
export function createPipelineApp(options: PipelineAppOptions): App {
  const { directory, connect = connectByGrpc, store, telemetry, corsOrigins, logger } = options;
  const { tracer, propagator } = telemetry;
  const workers = createWorkerClients(directory, connect);

  const callOf = (call: HandlerContext): GenerateCall => ({
    ...callDeadline(call),
    // Anybody may call a pipeline, so nobody is believed who says that it calls for somebody else.
    caller: sharingKeyOf(call, { trustHeader: false }),
    context: call.values.get(serverScope),
    baseUrl: options.publicUrl ?? new URL(call.url).origin,
  });

  return createApp({
    name: pipelineName,
    services: [ImagePipelineService],
    routes: pipelineRoutes({ context: { workers, tracer, propagator, store }, callOf }),
    serverSpan: options.trustTraceparent ? "trust" : "link",
    httpRoute: store && createImageRoute(store),
    corsOrigins,
    teardown: async () => workers.close(),
    telemetry,
    logger,
  });
}
