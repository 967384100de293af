import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { resultOf } from "../app/result-of.js";
import {
  type GenerateRequest,
  GenerateResponseSchema,
  ImagePipelineService,
} from "../gen/throughline/v1/pipeline_pb.js";
import { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { traceIdOf } from "../trace/trace-id.js";
import { followRequest } from "./follow-request.js";
import { type GenerateCall, type GenerateContext, generate, type WorkerRpc } from "./generate.js";
import type { RunningRequests } from "./running-requests.js";

/** Options of {@link pipelineRoutes}. */
export interface PipelineRoutesOptions {
  readonly context: GenerateContext;
  /** What the way of a request has to know of its call. */
  readonly callOf: (call: HandlerContext) => GenerateCall;
  /** Where requests are told of while they run. @default nowhere */
  readonly requests?: RunningRequests | undefined;
}

/** The worker's unary rpc: one event, the result. Nothing is sent before it, so the call may be tried again until then. */
const inferOnce: WorkerRpc = {
  method: TextToImageWorkerService.method.infer,
  async *call({ client }, request, options) {
    yield { case: "result", value: await client.infer(request, options) };
  },
};

/** The worker's streaming rpc: the same with progress. */
const inferStreaming: WorkerRpc = {
  method: TextToImageWorkerService.method.inferStream,
  async *call({ client }, request, options) {
    for await (const { event } of client.inferStream({ request }, options)) {
      yield event;
    }
  },
};

/** The pipeline's two rpcs: one way of a request, told whole or event by event. */
export function pipelineRoutes({ context, callOf, requests }: PipelineRoutesOptions) {
  const run = (request: GenerateRequest, handler: HandlerContext, rpc: WorkerRpc) => {
    const call = callOf(handler);
    const { name: method } = handler.method;
    const followed = { requests, method, traceId: traceIdOf(call.context), signal: call.signal };
    return followRequest(generate(request, call, rpc, context), followed);
  };
  return (router: ConnectRouter): void => {
    router.service(ImagePipelineService, {
      async generate(request, call) {
        return create(GenerateResponseSchema, await resultOf(run(request, call, inferOnce)));
      },
      async *generateStream({ request }, call) {
        // The contract's rules make `request` present.
        if (request !== undefined) {
          for await (const event of run(request, call, inferStreaming)) {
            yield { event };
          }
        }
      },
    });
  };
}
