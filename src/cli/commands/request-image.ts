import { create } from "@bufbuild/protobuf";
import { createPipelineClient } from "../../client/client.js";
import { schedulersByName } from "../../client/scheduler-names.js";
import {
  type Delivery,
  type Progress as GenerationProgress,
  ImageFormat,
  Scheduler,
} from "../../gen/throughline/v1/image_pb.js";
import {
  type GenerateRequest,
  GenerateRequestSchema,
  type GenerateResponse,
} from "../../gen/throughline/v1/pipeline_pb.js";
import { CliError } from "../errors.js";
import { maxImageBytes } from "../image/fetch-image.js";
import type { LoraChoice } from "../options/values.js";
import type { Access } from "../services/security.js";
import { type ProgressReporter, showQueued, showStage } from "../terminal/progress.js";
import { rejectedFlags } from "./rejected-flags.js";
import { createStallWatch, StallError } from "./stall-watch.js";
import { createServerTransport, describeCallFailure } from "./studio-client.js";

/** An image in base64, and the other fields of its message. */
export const maxMessageBytes = Math.ceil((maxImageBytes * 4) / 3) + 1024 * 1024;

const formats = { png: ImageFormat.PNG, jpeg: ImageFormat.JPEG, webp: ImageFormat.WEBP } as const;

/** What to generate; absent fields mean the model's defaults. */
export interface ImageRequest {
  readonly prompt: string;
  readonly workerApp: string | undefined;
  readonly seed: number | undefined;
  readonly steps: number | undefined;
  readonly guidance: number | undefined;
  readonly negative: string | undefined;
  readonly scheduler: string | undefined;
  /** Pixels. */
  readonly width: number | undefined;
  /** Pixels. */
  readonly height: number | undefined;
  readonly format: keyof typeof formats | undefined;
  readonly quality: number | undefined;
  /** Denoising steps from one preview to the next; undefined for none. */
  readonly previewInterval: number | undefined;
  readonly delivery: Delivery;
  readonly loras?: readonly LoraChoice[] | undefined;
  /** Encoded. */
  readonly initImage: Uint8Array | undefined;
  readonly strength: number | undefined;
  readonly clipSkip: number | undefined;
  readonly guidanceRescale: number | undefined;
}

/** The request in the contract's form. */
export function generateRequestOf(request: ImageRequest): GenerateRequest {
  const { prompt, workerApp, negative, steps, guidance, scheduler, format, loras, ...options } = request;
  return create(GenerateRequestSchema, {
    prompt,
    workerApp: workerApp ?? "",
    options: {
      negativePrompt: negative,
      numInferenceSteps: steps,
      guidanceScale: guidance,
      scheduler: schedulersByName.get(scheduler ?? "") ?? Scheduler.UNSPECIFIED,
      format: format === undefined ? ImageFormat.UNSPECIFIED : formats[format],
      loras: loras?.map(({ name, scale }) => ({ name, ...(scale !== undefined && { scale }) })) ?? [],
      seed: options.seed,
      width: options.width,
      height: options.height,
      quality: options.quality,
      previewInterval: options.previewInterval,
      delivery: options.delivery,
      initImage: options.initImage,
      strength: options.strength,
      clipSkip: options.clipSkip,
      guidanceRescale: options.guidanceRescale,
    },
  });
}

/** Server, limits and display of a request. */
export interface ImageCall {
  /** Base URL of the pipeline. */
  readonly server: string;
  /** @default none is needed */
  readonly access?: Access | undefined;
  /** Time limit of the request. Undefined: it is given up only when it makes no progress, see {@link createStallWatch}. */
  readonly timeoutMs: number | undefined;
  readonly interrupt: AbortSignal;
  readonly progress: ProgressReporter;
  /** Gets each preview. */
  readonly onPreview: (preview: GenerationProgress) => void;
}

/** Time without progress after which a request without a time limit is given up, in milliseconds. */
const stallMs = 300_000;

/**
 * Asks a pipeline for an image and shows its progress.
 *
 * @throws CliError with the code and the message; the reason of `interrupt`.
 */
export async function requestImage(request: ImageRequest, call: ImageCall): Promise<GenerateResponse> {
  const { server, access, timeoutMs, interrupt, progress, onPreview } = call;
  const client = createPipelineClient({ transport: createServerTransport({ server, access, maxMessageBytes }) });
  const stall = timeoutMs === undefined ? createStallWatch(stallMs) : undefined;
  try {
    const events = client.generateStream(
      {
        request: generateRequestOf(request),
      },
      {
        signal: stall === undefined ? interrupt : AbortSignal.any([interrupt, stall.signal]),
        ...(timeoutMs !== undefined && { timeoutMs }),
      },
    );
    // Read to the end: only then has the call succeeded, and its timer is cleared.
    let result: GenerateResponse | undefined;
    for await (const { event } of events) {
      switch (event.case) {
        case "queued":
          stall?.queued();
          showQueued(progress, event.value);
          break;
        case "progress":
          stall?.progressed();
          showStage(progress, event.value);
          if (event.value.preview.length > 0) {
            onPreview(event.value);
          }
          break;
        case "result":
          result = event.value;
          break;
        case undefined:
          break;
      }
    }
    if (result !== undefined) {
      return result;
    }
  } catch (error) {
    interrupt.throwIfAborted();
    if (stall?.signal.reason instanceof StallError) {
      throw new CliError(`${server}: ${stall.signal.reason.message}`, { cause: error });
    }
    const rejected = rejectedFlags(error);
    const cause = rejected.length === 0 ? "" : ` (set by ${rejected.join(", ")})`;
    throw new CliError(`${describeCallFailure(server, error, "pipeline")}${cause}`, { cause: error });
  } finally {
    stall?.stop();
  }
  throw new CliError(`${server} ended the call without an image`);
}
