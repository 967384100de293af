import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { type GenerateResponse, ImagePipelineService } from "../../gen/throughline/v1/pipeline_pb.js";
import { toBase64 } from "../../image/image-format.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { maxTimerMs } from "../../timer-limit.js";
import { createCallSlots } from "../call-slots.js";
import { writeJson } from "../json-response.js";
import type { ImagesRequest } from "./image-request.js";

/** Typed client of the pipeline. */
export type PipelineClient = Client<typeof ImagePipelineService>;

/** Client of the pipeline for an admitted caller. */
export function pipelineClient(call: FrontCall, { caller }: AdmittedCall): PipelineClient {
  return createClient(ImagePipelineService, call.transport(caller));
}

/** Generate all images of a request and respond with them together. The first failure ends the others, also those that wait, and is thrown. */
export async function respondImages(request: ImagesRequest, call: FrontCall, first: AdmittedCall): Promise<void> {
  let traceResponse: string | undefined;
  const onHeader = (header: Headers) => {
    traceResponse ??= header.get(traceHeader) ?? undefined;
  };
  const { prompt, model } = request;
  const client = pipelineClient(call, first);
  const forwarded = createForwarded(call);
  const slots = createCallSlots(call, first, maxRunning(request));
  const generated = await Promise.all(
    request.seeds.map((seed) => {
      const options = { ...request.options, seed };
      return slots.run((signal) =>
        client.generate({ prompt, workerApp: model, options }, { ...forwarded(), signal, onHeader }),
      );
    }),
  );
  await writeJson(
    call.response,
    200,
    {
      created: unixTime(),
      output_format: request.outputFormat,
      size: sizeOf(generated[0]?.image) ?? request.size,
      data: generated.map((response) => ({ ...imageOf(response.image), ...factsOf(response) })),
    },
    traceResponse === undefined ? {} : { [traceHeader]: traceResponse },
  );
}

/** Bytes of images to start from that are sent at a time. A worker receives at most 64 MiB of bodies, in buffers of up to twice their size. */
const maxSentBytes = 25_165_824;

/** Calls of a request that may run at a time. */
function maxRunning({ options: { initImage } }: ImagesRequest): number {
  return initImage === undefined ? Number.POSITIVE_INFINITY : Math.max(1, Math.floor(maxSentBytes / initImage.length));
}

/** Header of an answer with the trace of its first image. */
export const traceHeader = "traceresponse";

/**
 * Create the options of a front's calls to the pipeline: headers of its request, and what remains of its time limit. OpenAI's clients send
 * their time limit in seconds.
 */
export function createForwarded({ header }: FrontCall): () => CallOptions {
  const since = performance.now();
  const limitMs = Math.min(Number(header.get("x-stainless-timeout") ?? Number.NaN) * 1000, maxTimerMs);
  const headers = new Headers();
  for (const name of ["traceparent", "tracestate", "baggage"]) {
    const value = header.get(name);
    if (value !== null) {
      headers.set(name, value);
    }
  }
  const remainingMs = () => Math.max(1, Math.ceil(limitMs - (performance.now() - since)));
  return () => ({ headers, ...(limitMs > 0 && { timeoutMs: remainingMs() }) });
}

/** Seconds since 1970. */
export function unixTime(): number {
  return Math.floor(Date.now() / 1000);
}

/** Image as base64, or its URL. */
export function imageOf(image: Image | undefined): { readonly b64_json: string } | { readonly url: string } {
  if (image === undefined) {
    throw new ConnectError("the pipeline returned no image", Code.Internal);
  }
  const { data, url } = image;
  return url === "" ? { b64_json: toBase64(data) } : { url };
}

/** Size of an image, as `WIDTHxHEIGHT`. Undefined if the worker did not send it. */
export function sizeOf(image: Image | undefined): string | undefined {
  return image === undefined || image.width === 0 ? undefined : `${image.width}x${image.height}`;
}

/** Extension of OpenAI's answer: what is needed to repeat and to trace an image. */
export function factsOf({ seed, traceId }: GenerateResponse) {
  return { seed, ...(traceId !== "" && { trace_id: traceId }) };
}
