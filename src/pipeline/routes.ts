import { create } from "@bufbuild/protobuf";
import type { ConnectRouter, HandlerContext } from "@connectrpc/connect";
import { createEventStream } from "../app/event-stream.js";
import {
  type GenerateStreamResponse,
  GenerateStreamResponseSchema,
  ImagePipelineService,
} from "../gen/throughline/v1/pipeline_pb.js";
import { internal } from "../mesh/errors/errors.js";
import { type GenerateCall, type GenerateContext, generate } from "./generate.js";

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
