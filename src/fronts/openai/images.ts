import { type CallOptions, type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import type { Image } from "../../gen/throughline/v1/image_pb.js";
import { type GenerateResponse, ImagePipelineService } from "../../gen/throughline/v1/pipeline_pb.js";
import { toBase64 } from "../../image/image-format.js";
import type { AdmittedCall } from "../../mesh/access/access-control.js";
import { hasReason } from "../../mesh/errors/errors.js";
import type { FrontCall } from "../../mesh/serve/http-front.js";
import { maxTimerMs } from "../../timer-limit.js";
import { writeJson } from "./errors.js";
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
  const slots = createSlots(call, first, maxRunning(request));
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

/** Runs calls within the caller's limits. */
interface Slots {
  /**
   * Runs a call as soon as the caller may have one more. Its signal is aborted when the client disconnects, or another call fails.
   *
   * @throws ConnectError RESOURCE_EXHAUSTED over the rate limit.
   */
  run<T>(generate: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

/**
 * Create slots. The first call has the slot of the HTTP request; each other one is admitted by itself. At the caller's limit of concurrent
 * calls, or with `maxCalls` running, it waits for the end of one of these calls.
 */
function createSlots(call: FrontCall, first: AdmittedCall, maxCalls: number): Slots {
  let unused: AdmittedCall | undefined = first;
  let running = 0;
  let waiting: (() => void)[] = [];
  const failed = new AbortController();
  const signal = AbortSignal.any([call.signal, failed.signal]);

  const acquire = async (): Promise<AdmittedCall> => {
    for (;;) {
      signal.throwIfAborted();
      if (running >= maxCalls) {
        await new Promise<void>((resolve) => waiting.push(resolve));
        continue;
      }
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
      }
    }
  };

  return {
    async run(generate) {
      try {
        const slot = await acquire();
        try {
          return await generate(signal);
        } finally {
          running--;
          slot.release();
        }
      } catch (error) {
        failed.abort(error);
        throw error;
      } finally {
        // After the abort: calls that wake then must not take a token of the caller's rate.
        const woken = waiting;
        waiting = [];
        for (const wake of woken) {
          wake();
        }
      }
    },
  };
}
