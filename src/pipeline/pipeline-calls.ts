import { create } from "@bufbuild/protobuf";
import { type CallOptions, createContextValues } from "@connectrpc/connect";
import type { Context } from "@opentelemetry/api";
import type { AppClients } from "../app/app-clients.js";
import { Delivery, type GenerationOptions, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import type { GenerateRequest, GenerateResponse } from "../gen/throughline/v1/pipeline_pb.js";
import { type InferRequest, type InferResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { callerHeader } from "../mesh/access/callers.js";
import { internal } from "../mesh/errors/errors.js";
import { untraced } from "../trace/app-call-interceptor.js";
import { callWorker, type GenerateEvent, workerFailure } from "./call-worker.js";
import { type GenerateContext, generate } from "./generate.js";

/** A request that no connection waits for, such as that of a job. */
export interface DetachedCall {
  /** Aborting it stops the worker before its next step. */
  readonly signal: AbortSignal;
  /** Time limit, in milliseconds. */
  readonly timeoutMs: number;
  /** Fairness key of the caller. */
  readonly caller: string;
}

/** The pipeline's functions, for services beside its own on the same port. */
export interface PipelineCalls {
  /** Returns the app id that a request selects; empty selects the default. @throws ConnectError NOT_FOUND */
  resolveApp(workerApp: string): string;
  /**
   * Runs a request as `Generate`, with the image in `image.data`. Permissions are not checked.
   *
   * @param call.context context whose span is `image-pipeline`.
   * @throws ConnectError
   */
  generate(
    request: GenerateRequest,
    call: DetachedCall & { readonly context: Context },
    emit: (event: GenerateEvent) => void,
  ): Promise<GenerateResponse>;
  /**
   * Sends a request to a worker as it is, without a span of the pipeline and with the request's own carrier. The image is in `image.data`.
   *
   * @throws ConnectError
   */
  infer(
    workerApp: string,
    request: InferRequest,
    call: DetachedCall,
    emit: (event: GenerateEvent) => void,
  ): Promise<InferResponse>;
  /** Counts the workers of an app that serve; none for an app that the directory does not have. */
  workersOf(appId: string): Promise<WorkerCount>;
  /** Calls back with the app id whenever one of its workers becomes healthy. */
  onServing(listener: (appId: string) => void): void;
}

/** Workers of an app. */
export interface WorkerCount {
  readonly serving: number;
  /** Average service time of a call, in milliseconds; undefined before the first one. */
  readonly serviceMs: number | undefined;
}

/** Options of {@link createPipelineCalls}. */
export interface PipelineCallsOptions {
  readonly context: GenerateContext;
  readonly apps: AppClients;
}

/** Create the functions over the pipeline's own dependencies. */
export function createPipelineCalls({ context, apps }: PipelineCallsOptions): PipelineCalls {
  const { directory } = context;
  return {
    resolveApp: (workerApp) => directory.lookUp(workerApp).appId,

    generate(request, { signal, timeoutMs, caller, context: scope }, emit) {
      const options = inline(request.options);
      const call = {
        signal,
        onward: { signal, timeoutMs },
        checkMayUse: () => {},
        caller,
        context: scope,
        baseUrl: "",
        log: () => {},
      };
      return generate({ ...request, options }, call, context, emit);
    },

    async infer(workerApp, request, { signal, timeoutMs, caller }, emit) {
      const options = inline(request.options);
      const callOptions: CallOptions = {
        signal,
        timeoutMs,
        headers: { [callerHeader]: caller },
        contextValues: createContextValues().set(untraced, true),
      };
      const worker = apps.client(workerApp, TextToImageWorkerService);
      const response = await callWorker(worker, { ...request, options }, callOptions, emit).catch((error: unknown) => {
        throw workerFailure(error, signal);
      });
      if (response === undefined) {
        throw internal("the worker returned no image");
      }
      return response;
    },

    async workersOf(appId) {
      const [status] = await apps.describe(TextToImageWorkerService, (id) => id === appId);
      if (status === undefined) {
        return { serving: 0, serviceMs: undefined };
      }
      const serving = status.workers.filter(({ health }) => health === "serving");
      const times = serving.flatMap(({ serviceMs }) => serviceMs ?? []);
      return {
        // A connection that is not gRPC lists no workers.
        serving: status.workers.length === 0 ? 1 : serving.length,
        serviceMs: times.length === 0 ? undefined : times.reduce((sum, ms) => sum + ms, 0) / times.length,
      };
    },

    onServing: apps.onServing,
  };
}

function inline(options: GenerationOptions = create(GenerationOptionsSchema)): GenerationOptions {
  return { ...options, delivery: Delivery.INLINE };
}
