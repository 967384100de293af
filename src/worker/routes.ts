import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { resultOf } from "../app/result-of.js";
import { type InferRequest, InferResponseSchema, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { type InferCall, type InferContext, infer } from "./infer.js";

/** Options of {@link workerRoutes}. */
export interface WorkerRoutesOptions {
  /** Asked for at each call, because the engine comes after the server. */
  readonly context: () => InferContext;
  /** What the way of a request has to know of its call. */
  readonly callOf: (call: HandlerContext) => InferCall;
}

/** The worker's two rpcs: one way of a request, told whole or event by event. */
export function workerRoutes({ context, callOf }: WorkerRoutesOptions) {
  const events = (request: InferRequest, call: HandlerContext) => infer(request, callOf(call), context());

  return (router: ConnectRouter): void => {
    router.service(TextToImageWorkerService, {
      async infer(request, call) {
        return create(InferResponseSchema, await resultOf(events(request, call)));
      },
      async *inferStream({ request }, call) {
        // The contract's rules make `request` present.
        if (request !== undefined) {
          for await (const event of events(request, call)) {
            yield { event };
          }
        }
      },
    });
  };
}
