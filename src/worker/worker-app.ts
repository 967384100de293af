import type { DescMethod } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import type { Logger } from "pino";
import { callDeadline } from "../app/call-deadline.js";
import { addLogFields } from "../app/call-log.js";
import { type App, createApp } from "../app/create-app.js";
import { createEventStream } from "../app/event-stream.js";
import type { Engine } from "../engine/engine.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { createImageDecoder } from "../image/decode-image.js";
import { createImageRoute } from "../image/image-route.js";
import type { ImageStore } from "../image/image-store.js";
import { optionHint } from "../image/option-hints.js";
import { countFailures } from "../image/store-failures.js";
import { fairnessKeyOf } from "../mesh/access/callers.js";
import { unavailable } from "../mesh/errors/errors.js";
import { maxImageRequestBytes } from "../request-limits.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { withSpan } from "../trace/span-scope.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { createAdmission, defaultMaxWaiting } from "./admission.js";
import { describeModel } from "./describe-model.js";
import { type InferCall, type InferContext, infer } from "./infer.js";
import { toStreamMessage } from "./progress.js";
import { createWorkerMetrics } from "./worker-metrics.js";

/** Engine with a lifecycle: it can be temporarily unavailable and must be closed. */
export interface ManagedEngine extends Engine {
  /** Calls back when the availability changes. Returns a function that removes the listener. */
  onAvailabilityChange(listener: (available: boolean) => void): () => void;
  /** Ends the engine; a running generation fails. */
  close(): Promise<void>;
}

/** Options of {@link createWorkerApp}. */
export interface WorkerAppOptions {
  /** Loads and warms up the model. The worker is ready once it resolves. */
  readonly startEngine: () => Promise<ManagedEngine>;
  /** Image store. Absent: images are sent as `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Public base URL of the store's images. @default the origin of the call's URL */
  readonly publicUrl?: string | undefined;
  /** Maximum requests in the queue, besides the running one. @default that of `--max-waiting` */
  readonly maxWaiting?: number | undefined;
  /** Whether a `traceparent` header becomes the parent if the body's carrier names none. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /** Whether `inference` has the attributes of OpenTelemetry's GenAI conventions, without the prompt. @default false */
  readonly genaiAttributes?: boolean | undefined;
  /** Whether PNG files contain the prompt and the settings, so that they can be generated again. @default false */
  readonly imageMetadata?: boolean | undefined;
  readonly telemetry: Telemetry;
  readonly logger: Logger;
}

/** Name of the worker in traces, health and logs. */
export const workerName = "text-to-image-worker";

/** Create the TextToImageWorker app: one engine behind a bounded queue. */
export function createWorkerApp(options: WorkerAppOptions): App {
  const { telemetry, logger, maxWaiting = defaultMaxWaiting, trustTraceparent = false } = options;
  const store = options.store && countFailures(options.store, telemetry.meter);
  const { tracer, stageTracer, propagator } = telemetry;
  const admission = createAdmission({ maxWaiting });
  const metrics = createWorkerMetrics({
    meter: telemetry.meter,
    queue: { limit: maxWaiting, length: () => admission.waiting },
  });
  const images = createImageDecoder();
  let engine: ManagedEngine | undefined;
  let removeListener = () => {};

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
      images,
      propagator,
      headerPolicy: trustTraceparent ? "trust" : "ignore",
      store,
      genaiAttributes: options.genaiAttributes ?? false,
      imageMetadata: options.imageMetadata ?? false,
    };
  };
  const callOf = (call: HandlerContext): InferCall => ({
    ...callDeadline(call),
    caller: fairnessKeyOf(call, { trustHeader: true }),
    get baseUrl() {
      return options.publicUrl ?? new URL(call.url).origin;
    },
    header: call.requestHeader,
    onSpan: (scope) => void call.values.set(serverScope, scope),
    log: (fields) => addLogFields(call, fields),
  });

  return createApp({
    name: workerName,
    services: [TextToImageWorkerService],
    methodRequestBytes: new Map<DescMethod, number>([
      [TextToImageWorkerService.method.infer, maxImageRequestBytes],
      [TextToImageWorkerService.method.inferStream, maxImageRequestBytes],
    ]),
    routes: workerRoutes({ context, callOf }),
    jsonFieldHint: optionHint,
    // `inference` starts after the admission: a rejected call has no span.
    serverSpan: "own",
    httpRoute: store && store.urlOf === undefined ? createImageRoute(store) : undefined,
    async setup({ setAvailable }) {
      // A separate trace, so that no request's trace contains the warm-up.
      engine = await withSpan(tracer, "warmup", { parent: ROOT_CONTEXT }, options.startEngine);
      metrics.engineIs("ready");
      removeListener = engine.onAvailabilityChange((available) => {
        setAvailable(available);
        admission.setPaused(!available);
        metrics.engineIs(available ? "ready" : "restarting");
      });
    },
    async teardown() {
      // Closing the engine must not count as a restart.
      removeListener();
      await engine?.close();
    },
    telemetry,
    logger,
  });
}

/** Options of {@link workerRoutes}. */
export interface WorkerRoutesOptions {
  /** Called for each call, because the engine starts after the server. */
  readonly context: () => InferContext;
  /** Returns the properties of a call. */
  readonly callOf: (call: HandlerContext) => InferCall;
}

/** Register the worker's RPCs. Both of generation are the same function, with and without progress. */
export function workerRoutes({ context, callOf }: WorkerRoutesOptions) {
  return (router: ConnectRouter): void => {
    router.service(TextToImageWorkerService, {
      infer: (request, call) => infer(request, callOf(call), context()),
      inferStream: ({ request }, call) =>
        createEventStream({
          request,
          run: (inner, emit) => infer(inner, callOf(call), context(), emit),
          toMessage: toStreamMessage,
          withoutPreview: ({ preview, ...progress }) => preview && progress,
        }),
      describeModel: () => ({ model: describeModel(context().engine.info) }),
    });
  };
}
