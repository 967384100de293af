import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { type GenerateResponse, ImagePipelineService } from "../../gen/throughline/v1/pipeline_pb.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import { hasReason } from "../../mesh/errors/errors.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { respondJson } from "./errors.js";
import type { ImagesRequest } from "./image-request.js";

/** Typed client of the pipeline. */
export type PipelineClient = Client<typeof ImagePipelineService>;

/** Client of the pipeline for an admitted caller. */
export function pipelineClient(call: FrontCall, { caller }: AdmittedCall): PipelineClient {
  return createClient(ImagePipelineService, call.transport(caller));
}

/** Generate all images of a request and respond with them together. The first failure ends the others and is thrown. */
export async function respondImages(request: ImagesRequest, call: FrontCall, first: AdmittedCall): Promise<void> {
  let traceResponse: string | undefined;
  const failed = new AbortController();
  const { prompt, model } = request;
  const callOptions: CallOptions = {
    ...forwarded(call),
    signal: AbortSignal.any([call.signal, failed.signal]),
    onHeader(header) {
      traceResponse ??= header.get(traceHeader) ?? undefined;
    },
  };
  const client = pipelineClient(call, first);
  const slots = createSlots(call, first);
  const generated = await Promise.all(
    request.seeds.map(async (seed) => {
      const options = { ...request.options, seed };
      try {
        return await slots.run(() => client.generate({ prompt, workerApp: model, options }, callOptions));
      } catch (error) {
        failed.abort(error);
        throw error;
      }
    }),
  );
  respondJson(
    call.response,
    200,
    {
      created: unixTime(),
      output_format: request.outputFormat,
      size: request.size,
      data: generated.map((response) => ({ ...imageOf(response.image), ...factsOf(response) })),
    },
    traceResponse === undefined ? {} : { [traceHeader]: traceResponse },
  );
}

/** Header of an answer with the trace of its first image. */
export const traceHeader = "traceresponse";

/** Headers and time limit of a front's request, for the pipeline. OpenAI's clients send their time limit, in seconds. */
export function forwarded({ header }: FrontCall): CallOptions {
  const seconds = Number(header.get("x-stainless-timeout") ?? Number.NaN);
  const headers = new Headers();
  for (const name of ["traceparent", "tracestate", "baggage"]) {
    const value = header.get(name);
    if (value !== null) {
      headers.set(name, value);
    }
  }
  return { headers, ...(seconds > 0 && { timeoutMs: Math.ceil(seconds * 1000) }) };
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
  return url === "" ? { b64_json: base64(data) } : { url };
}

/** Extension of OpenAI's answer: what is needed to repeat and to trace an image. */
export function factsOf({ seed, traceId }: GenerateResponse) {
  return { seed, ...(traceId !== "" && { trace_id: traceId }) };
}

/** Encode bytes as base64, without a copy before. */
export function base64({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString("base64");
}

/** Runs calls within the caller's limits. */
interface Slots {
  /** Runs a call as soon as the caller may have one more. @throws ConnectError RESOURCE_EXHAUSTED over the rate limit. */
  run<T>(call: () => Promise<T>): Promise<T>;
}

/**
 * Create slots. The first call has the slot of the HTTP request; each other one is admitted by itself. At the caller's limit of concurrent
 * calls, it waits for the end of one of these calls.
 */
function createSlots(call: FrontCall, first: AdmittedCall): Slots {
  let unused: AdmittedCall | undefined = first;
  let running = 0;
  let waiting: (() => void)[] = [];

  const acquire = async (): Promise<AdmittedCall> => {
    for (;;) {
      try {
        const slot = unused ?? call.admit();
        unused = undefined;
        running++;
        return slot;
      } catch (error) {
        const isFull = error instanceof ConnectError && hasReason(error, "CONCURRENCY_LIMIT");
        if (!isFull || running === 0) {
          throw error;
        }
        await new Promise<void>((resolve) => waiting.push(resolve));
        call.signal.throwIfAborted();
      }
    }
  };

  return {
    async run(generate) {
      const slot = await acquire();
      try {
        return await generate();
      } finally {
        running--;
        slot.release();
        const woken = waiting;
        waiting = [];
        for (const wake of woken) {
          wake();
        }
      }
    },
  };
}
