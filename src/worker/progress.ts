import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { RunningEvent, StreamEvent } from "../app/event-stream.js";
import type { GenerationEvent, GenerationStage, Pixels } from "../engine/engine.js";
import { Stage } from "../gen/throughline/v1/image_pb.js";
import {
  type InferResponse,
  type InferStreamResponse,
  InferStreamResponseSchema,
} from "../gen/throughline/v1/worker_pb.js";
import { encodeImage } from "../image/encode-image.js";
import { contentTypeOf } from "../image/image-format.js";
import type { QueuePosition } from "./admission.js";

/** Progress of a request, with an unencoded preview. */
export interface InferProgress {
  readonly stage: Stage;
  /** Finished steps; 0 in other stages than denoising. */
  readonly step: number;
  /** 0 in other stages than denoising. */
  readonly totalSteps: number;
  readonly preview?: Pixels | undefined;
}

/** Event of a running request. */
export type InferEvent = RunningEvent<QueuePosition, InferProgress>;

type StreamedEvent = StreamEvent<QueuePosition, InferProgress, InferResponse>;

/** Progress of the upload, the stage after the engine's. */
export const uploading: InferProgress = { stage: Stage.UPLOAD, step: 0, totalSteps: 0 };

/** The contract has no stage for the encoding of an image, which belongs to the stage before. */
const stages: Readonly<Record<GenerationStage, Stage | undefined>> = {
  "text-encoding": Stage.TEXT_ENCODING,
  "vae-encode": undefined,
  denoising: Stage.DENOISING,
  "vae-decode": Stage.VAE_DECODE,
};

/** Convert the engine's progress to the contract's; undefined for internal events. @param totalSteps steps that run. */
export function progressOf(event: GenerationEvent, totalSteps: number): InferProgress | undefined {
  switch (event.kind) {
    case "settings":
      return undefined;
    case "stage": {
      const stage = stages[event.stage];
      return stage === undefined
        ? undefined
        : { stage, step: 0, totalSteps: stage === Stage.DENOISING ? totalSteps : 0 };
    }
    case "step":
      return { stage: Stage.DENOISING, step: event.step, totalSteps, preview: event.preview };
  }
}

/** Describe the last known stage, for error messages. */
export function describeProgress({ stage, step, totalSteps }: InferProgress): string {
  switch (stage) {
    case Stage.TEXT_ENCODING:
      return "encoding the prompt";
    case Stage.DENOISING:
      return `denoising, step ${step} of ${totalSteps}`;
    case Stage.VAE_DECODE:
      return "decoding the image";
    case Stage.UPLOAD:
      return "storing the image";
    case Stage.UNSPECIFIED:
      return "before the generation";
  }
}

/** Build the message of an event. Previews are encoded as JPEG here, so dropped ones cost nothing. */
export async function toStreamMessage(event: StreamedEvent): Promise<InferStreamResponse> {
  return create(InferStreamResponseSchema, { event: await encoded(event) });
}

async function encoded(
  event: StreamedEvent,
): Promise<NonNullable<MessageInitShape<typeof InferStreamResponseSchema>["event"]>> {
  if (event.case !== "progress") {
    return event;
  }
  const { preview, ...progress } = event.value;
  const image = preview && (await encodeImage(preview, "jpeg"));
  return {
    case: "progress",
    value: { ...progress, ...(image && { preview: image.bytes, previewContentType: contentTypeOf(image.format) }) },
  };
}
