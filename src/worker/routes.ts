import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { createEventStream } from "../app/event-stream.js";
import { type InferStreamResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { internal } from "../mesh/errors/errors.js";
import { type InferCall, type InferContext, infer } from "./infer.js";
import { type StreamedEvent, toStreamMessage, withoutPreview } from "./progress.js";

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
