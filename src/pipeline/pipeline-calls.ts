import { create } from "@bufbuild/protobuf";
import { type CallOptions, createContextValues } from "@connectrpc/connect";
import type { AppClients } from "../app/app-clients.js";
import type { PipelineCalls } from "../calls/pipeline-calls.js";
import { Delivery, type GenerationOptions, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { callerHeader } from "../mesh/access/callers.js";
import { internal } from "../mesh/errors/errors.js";
import { untraced } from "../trace/app-call-interceptor.js";
import { callWorker, workerFailure } from "./call-worker.js";
import { type GenerateContext, generate } from "./generate.js";

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
        // The job itself counts.
        begin: () => () => {},
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
