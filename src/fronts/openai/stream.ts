import { type Progress, Stage } from "../../gen/throughline/v1/image_pb.js";
import type { GenerateResponse } from "../../gen/throughline/v1/pipeline_pb.js";
import { toBase64 } from "../../image/image-format.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import type { NodeResponse } from "../../mesh/port/node-handler.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { writePieces } from "../../mesh/serve/write-response.js";
import { defaultStrength, requestLimits } from "../../request-limits.js";
import { toOpenAiError } from "./errors.js";
import type { ImagesRequest } from "./image-request.js";
import {
  createForwarded,
  factsOf,
  imageOf,
  type PipelineClient,
  pipelineClient,
  sizeOf,
  traceHeader,
  unixTime,
} from "./images.js";

/**
 * Generate one image and stream it as server-sent events: partial images, then the image.
 *
 * Headers are sent with the first event of the pipeline, so that a request that is rejected has an HTTP status. A later failure is an event
 * `error`. Comments report the queue and the steps, which keeps proxies from closing an idle connection.
 *
 * @throws before the first event.
 * @see https://platform.openai.com/docs/api-reference/images-streaming
 */
export async function streamImage(request: ImagesRequest, call: FrontCall, slot: AdmittedCall): Promise<void> {
  const client = pipelineClient(call, slot);
  const { prompt, model } = request;
  const previewInterval = await previewIntervalOf(request, client, call.signal);
  const events = createEventWriter(call.response);
  const partials = createPartials(request.partialImages);
  const common = {
    size: request.size,
    quality: "auto",
    background: "opaque",
    output_format: request.outputFormat,
  };
  const family = request.isEdit ? "image_edit" : "image_generation";
  let traceResponse: string | undefined;
  try {
    const stream = client.generateStream(
      {
        request: { prompt, workerApp: model, options: { ...request.options, seed: request.seeds[0], previewInterval } },
      },
      {
        ...createForwarded(call)(),
        signal: call.signal,
        onHeader(header) {
          traceResponse = header.get(traceHeader) ?? undefined;
        },
      },
    );
    let result: GenerateResponse | undefined;
    for await (const { event } of stream) {
      events.open(traceResponse);
      if (event.case === "queued") {
        await events.comment(`queued, ${event.value.position} before this request`);
      } else if (event.case === "progress") {
        const { stage, preview, previewContentType, step, totalSteps } = event.value;
        const index = partials.indexOf(event.value);
        if (index === undefined) {
          await events.comment(totalSteps === 0 ? stageName(stage) : `step ${step} of ${totalSteps}`);
          continue;
        }
        await events.send({
          ...common,
          type: `${family}.partial_image`,
          b64_json: toBase64(preview),
          partial_image_index: index,
          created_at: unixTime(),
          output_format: previewContentType.replace("image/", ""),
        });
      } else if (event.case === "result") {
        result = event.value;
      }
    }
    await events.send({
      ...common,
      type: `${family}.completed`,
      size: sizeOf(result?.image) ?? request.size,
      ...imageOf(result?.image),
      created_at: unixTime(),
      ...(result && factsOf(result)),
    });
  } catch (error) {
    if (!events.isOpen) {
      throw error;
    }
    await events.send({ type: "error", error: toOpenAiError(error).body });
  }
  events.end();
}

/** @example "text encoding" */
function stageName(stage: Stage): string {
  return (Stage[stage] ?? "working").toLowerCase().replaceAll("_", " ");
}

/** Time limit for the model's default number of steps, in milliseconds. */
const describeMs = 250;

/** Steps between previews, such that there are enough of them. 1 if the number of steps is not known. */
async function previewIntervalOf(
  { partialImages, model, steps, isEdit, options }: ImagesRequest,
  client: PipelineClient,
  signal: AbortSignal,
): Promise<number> {
  if (partialImages === 0) {
    return 0;
  }
  const wanted = steps ?? (await defaultSteps(model, client, signal)) ?? 1;
  // Of an edit, only the last steps run.
  const total = isEdit ? Math.floor(wanted * (options.strength ?? defaultStrength)) : wanted;
  // A worker may describe its model with any number of steps.
  return Math.min(requestLimits.steps.max, Math.max(1, Math.floor(total / (partialImages + 1))));
}

async function defaultSteps(model: string, client: PipelineClient, signal: AbortSignal): Promise<number | undefined> {
  try {
    const { models } = await client.listModels({}, { signal, timeoutMs: describeMs });
    // The default app's model is the first.
    const found = model === "" ? models[0] : models.find(({ workerApp }) => workerApp === model);
    return found?.defaults?.numInferenceSteps;
  } catch {
    // The request itself will tell.
    return undefined;
  }
}

/** Chooser of the previews that become partial images. */
interface Partials {
  /** Returns the index of a partial image; undefined if the event is none. */
  indexOf(progress: Progress): number | undefined;
}

/** Spread `count` partial images evenly over the steps. */
function createPartials(count: number): Partials {
  let sent = 0;
  return {
    indexOf({ preview, step, totalSteps }) {
      const isDue = sent < count && step * (count + 1) >= (sent + 1) * totalSteps;
      return preview.length > 0 && isDue ? sent++ : undefined;
    },
  };
}

/** Writer of server-sent events, with back-pressure. */
interface EventWriter {
  readonly isOpen: boolean;
  /** Sends the headers; idempotent. */
  open(traceResponse: string | undefined): void;
  send(event: { readonly type: string } & Readonly<Record<string, unknown>>): Promise<void>;
  comment(text: string): Promise<void>;
  end(): void;
}

function createEventWriter(response: NodeResponse): EventWriter {
  const closed = new Promise<void>((resolve) => response.once("close", resolve));
  let isOpen = false;
  const write = (text: string) => writePieces(Buffer.from(text), response, closed);
  return {
    get isOpen() {
      return isOpen;
    },
    open(traceResponse) {
      if (isOpen) {
        return;
      }
      isOpen = true;
      response.statusCode = 200;
      response.setHeader("content-type", "text/event-stream; charset=utf-8");
      response.setHeader("cache-control", "no-store");
      // Otherwise nginx buffers the stream until its end.
      response.setHeader("x-accel-buffering", "no");
      if (traceResponse !== undefined) {
        response.setHeader(traceHeader, traceResponse);
      }
    },
    send: (event) => write(`event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`),
    comment: (text) => write(`: ${text}\n\n`),
    end: () => void response.end(),
  };
}
