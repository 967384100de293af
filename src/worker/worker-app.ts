import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { Logger } from "pino";
import { callDeadline } from "../app/call-deadline.js";
import { type App, createApp } from "../app/create-app.js";
import { createEventStream } from "../app/event-stream.js";
import type { Engine } from "../engine/engine.js";
import { type InferStreamResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import { sharingKeyOf } from "../mesh/access/callers.js";
import { internal, unavailable } from "../mesh/errors/errors.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { withSpan } from "../trace/span-scope.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { createAdmission, defaultMaxWaiting } from "./admission.js";
import { type InferCall, type InferContext, infer } from "./infer.js";
import { type StreamedEvent, toStreamMessage, withoutPreview } from "./progress.js";
import { createWorkerMetrics } from "./worker-metrics.js";

/** An engine that lives on its own: it can be away for a while, and has to be closed. */
export interface ManagedEngine extends Engine {
  /** Calls back whenever the engine goes away or comes back; the function returned takes the listener away again. */
  onAvailabilityChange(listener: (available: boolean) => void): () => void;
  /** Ends it; a generation that runs fails. */
  close(): Promise<void>;
}

/** What a worker is made of. */
export interface WorkerAppOptions {
  /** Loads the model and warms it up; the worker is ready when it resolves. */
  readonly startEngine: () => Promise<ManagedEngine>;
  /** Where images are kept. Absent: they travel as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Base URL that callers reach the store's images under. @default the URL that the call came to */
  readonly publicUrl?: string | undefined;
  /** Requests that may wait besides the one that is generated. @default 16 */
  readonly maxWaiting?: number | undefined;
  /** Whether a `traceparent` header becomes the parent where the body's carrier names none. @default false */
  readonly trustTraceparent?: boolean | undefined;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Name of the worker in traces, health and logs. */
export const workerName = "text-to-image-worker";

/** TextToImageWorker as an app: one engine behind a bounded queue. */
export function createWorkerApp(options: WorkerAppOptions): App {
  const { telemetry, logger, store, maxWaiting = defaultMaxWaiting, trustTraceparent = false } = options;
  const { tracer, stageTracer, propagator } = telemetry;
  const admission = createAdmission({ maxWaiting });
  const metrics = createWorkerMetrics({
    meter: telemetry.meter,
    queue: { limit: maxWaiting, length: () => admission.waiting },
  });
  let engine: ManagedEngine | undefined;
  let forgetEngine = () => {};

  const context = (): InferContext => {
    if (engine === undefined) {
      throw unavailable("the worker has no engine yet");
    }
    return {
      engine,
      admission,
      tracer,
      stageTracer,
      metrics,
      propagator,
      headerPolicy: trustTraceparent ? "trust" : "ignore",
      store,
    };
  };
  const callOf = (call: HandlerContext): InferCall => ({
    ...callDeadline(call),
    caller: sharingKeyOf(call, { trustHeader: true }),
    get baseUrl() {
      return options.publicUrl ?? new URL(call.url).origin;
    },
    header: call.requestHeader,
    onSpan: (scope) => void call.values.set(serverScope, scope),
  });

  return createApp({
    name: workerName,
    services: [TextToImageWorkerService],
    routes: workerRoutes({ context, callOf }),
    // `inference` begins at the queue: a call that is rejected there has none.
    serverSpan: "own",
    httpRoute: store && createImageRoute(store),
    async setup({ setAvailable }) {
      // A trace of its own, so that no request's trace shows the model's first run.
      engine = await withSpan(tracer, "warmup", { parent: ROOT_CONTEXT }, options.startEngine);
      metrics.engineIs("ready");
      forgetEngine = engine.onAvailabilityChange((available) => {
        setAvailable(available);
        admission.setPaused(!available);
        metrics.engineIs(available ? "ready" : "restarting");
      });
    },
    async teardown() {
      // An engine that is closed goes away for good, which is no restart.
      forgetEngine();
      await engine?.close();
    },
    telemetry,
    logger,
  });
}

/** Options of {@link workerRoutes}. */
export interface WorkerRoutesOptions {
  /** Called for each call, because the engine comes after the server. */
  readonly context: () => InferContext;
  /** What a request has to know of its call. */
  readonly callOf: (call: HandlerContext) => InferCall;
}

/** The worker's two rpcs: the same function, with and without progress. */
export function workerRoutes({ context, callOf }: WorkerRoutesOptions) {
  return (router: ConnectRouter): void => {
    router.service(TextToImageWorkerService, {
      infer: (request, call) => infer(request, callOf(call), context()),
      inferStream: ({ request }, call) =>
        createEventStream<StreamedEvent, InferStreamResponse>({
          async run(emit) {
            if (request === undefined) {
              throw internal("the contract's rules were not checked");
            }
            return { case: "result", value: await infer(request, callOf(call), context(), emit) };
          },
          toMessage: toStreamMessage,
          withoutPreview,
        }),
    });
  };
}
