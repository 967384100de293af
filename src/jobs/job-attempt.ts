import { setTimeout as delay } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import {
  type Context,
  type Link,
  ROOT_CONTEXT,
  SpanKind,
  type TextMapPropagator,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import type { DetachedCall, GenerateEvent, PipelineCalls } from "../calls/pipeline-calls.js";
import { type Image, ImageSchema, type Progress } from "../gen/throughline/v1/image_pb.js";
import { type GenerateResponse, GenerateResponseSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { formatOfContentType } from "../image/image-format.js";
import { imageFileNameOf } from "../image/image-store.js";
import { ImageStoreError } from "../image/image-store-error.js";
import { hasReason, internal, retryDelayMsOf } from "../mesh/errors/errors.js";
import { extractCarrier, injectCarrier } from "../trace/carrier.js";
import { traceIdOf, withSpan } from "../trace/span-scope.js";
import { initImageFile, type JobFiles, type JobFileWriter } from "./job-files.js";
import { type JobWork, optionsOf } from "./job-payloads.js";
import type { StoredJob } from "./job-rows.js";
import { type JobTrace, jobAttributes } from "./job-trace.js";

/** Dependencies of {@link runAttempt}. */
export interface AttemptContext {
  readonly pipeline: PipelineCalls;
  readonly files: JobFiles;
  readonly tracer: Tracer;
  readonly propagator: TextMapPropagator;
  readonly jobTrace: JobTrace;
}

/** One attempt of a job. */
export interface Attempt {
  readonly job: StoredJob;
  readonly work: JobWork;
  /** Aborted when the job is cancelled or given to another attempt, and at shutdown. */
  readonly signal: AbortSignal;
  readonly onProgress: (progress: Progress) => void;
  /** Called with the `traceparent` of the attempt's span. */
  readonly onSpan: (traceparent: string) => void;
  /** Called with each failure to store the image that is followed by another try. */
  readonly onStoreAway: (error: ImageStoreError) => void;
}

/**
 * Runs one attempt, below a CONSUMER span `process`, and stores its image. The span's parent is the context of `send`, or it links to it;
 * it links to the attempt before.
 *
 * @returns the result, without image bytes and URL.
 * @throws ConnectError; ImageStoreError if the image cannot be stored.
 */
export function runAttempt(attempt: Attempt, context: AttemptContext): Promise<GenerateResponse> {
  const { job } = attempt;
  const { tracer, propagator, jobTrace } = context;
  const creation = extractCarrier(propagator, job.traceContext);
  const before =
    job.lastAttempt === undefined ? [] : linksTo(extractCarrier(propagator, { traceparent: job.lastAttempt }));
  const options = {
    parent: jobTrace === "link" ? ROOT_CONTEXT : creation,
    kind: SpanKind.CONSUMER,
    links: [...linksTo(creation), ...before],
    attributes: { ...jobAttributes("process", job), "throughline.job.attempt": job.attempt },
  };
  return withSpan(tracer, "process", options, async (_span, scope) => {
    const { traceparent } = injectCarrier(propagator, scope);
    if (traceparent !== undefined) {
      attempt.onSpan(traceparent);
    }
    // While the image is generated.
    const opening = context.files.open(job.id);
    opening.catch(() => {});
    const endsAt = performance.now() + job.runTimeoutSeconds * 1000;
    const result = await generateOnce(attempt, context, scope, endsAt);
    const { image } = result;
    if (image === undefined || image.data.length === 0) {
      throw internal("the worker returned no image");
    }
    return create(GenerateResponseSchema, {
      ...result,
      image: await storeImage(attempt, image, { files: context.files, opening, endsAt }),
    });
  });
}

/** Runs the work, and again after the worker's delay while its queue is full. */
async function generateOnce(
  attempt: Attempt,
  context: AttemptContext,
  scope: Context,
  endsAt: number,
): Promise<GenerateResponse> {
  for (;;) {
    try {
      const timeoutMs = Math.max(1, Math.floor(endsAt - performance.now()));
      return await generate(attempt, context, scope, timeoutMs);
    } catch (error) {
      const waitMs =
        error instanceof ConnectError && error.code === Code.ResourceExhausted ? retryDelayMsOf(error) : undefined;
      if (waitMs === undefined || !hasReason(ConnectError.from(error), "QUEUE_FULL")) {
        throw error;
      }
      const leftMs = endsAt - performance.now();
      if (leftMs <= waitMs) {
        throw error;
      }
      await delay(Math.max(waitMs, minimumWaitMs), undefined, { signal: attempt.signal });
    }
  }
}

/** A worker may name no delay at all. */
const minimumWaitMs = 100;

async function generate(
  { job, work, signal, onProgress }: Attempt,
  { pipeline, files, tracer }: AttemptContext,
  scope: Context,
  timeoutMs: number,
): Promise<GenerateResponse> {
  const call: DetachedCall = { signal, timeoutMs, caller: job.caller };
  const emit = (event: GenerateEvent) => event.case === "progress" && onProgress(event.value);
  const initImage = needsInitImage(work) ? await files.get(job.id, initImageFile) : undefined;
  if (needsInitImage(work) && initImage === undefined) {
    throw internal("the image that the job starts from is missing from the image folder");
  }
  if (work.case === "generate") {
    const request = { ...work.value, workerApp: job.app, options: withInitImage(work.value.options, initImage) };
    return withSpan(tracer, "image-pipeline", { parent: scope, kind: SpanKind.INTERNAL }, (_span, context) =>
      pipeline.generate(request, { ...call, context }, emit),
    );
  }
  const { request } = work.value;
  if (request === undefined) {
    throw internal("a stored job has no request");
  }
  const sent = { ...request, options: withInitImage(request.options, initImage) };
  const { $typeName: _, ...response } = await pipeline.infer(job.app, sent, call, emit);
  return create(GenerateResponseSchema, { ...response, traceId: traceIdOf(scope) });
}

function needsInitImage(work: JobWork): boolean {
  return optionsOf(work)?.initImage !== undefined;
}

function withInitImage<Options extends object>(options: Options | undefined, initImage: Uint8Array | undefined) {
  return options === undefined || initImage === undefined ? options : { ...options, initImage };
}

/** Between two tries to store an image while the store is away, in milliseconds. */
const storeRetryMs = 2_000;

/** Where and until when an image is stored. */
interface StoreImageContext {
  readonly files: JobFiles;
  /** The first try to open the job's files. */
  readonly opening: Promise<JobFileWriter>;
  /** In milliseconds of `performance.now()`. */
  readonly endsAt: number;
}

/** Stores the image, and again while the store is away: a new attempt would generate it again. */
async function storeImage(
  { job, signal, onStoreAway }: Attempt,
  image: Image,
  { files, opening, endsAt }: StoreImageContext,
): Promise<Image> {
  const format = formatOfContentType(image.contentType);
  if (format === undefined) {
    throw internal("the worker returned an image of an unknown type");
  }
  const { data: bytes, width, height } = image;
  const fileName = imageFileNameOf({ bytes, format, width, height });
  for (let opened: Promise<JobFileWriter> | undefined = opening; ; opened = undefined) {
    try {
      const write = await (opened ?? files.open(job.id));
      await write(fileName, bytes);
      return create(ImageSchema, { ...image, fileName, data: new Uint8Array(), url: "" });
    } catch (error) {
      const isAway = error instanceof ImageStoreError && error.reason === "unavailable";
      if (!isAway || performance.now() + storeRetryMs >= endsAt) {
        throw error;
      }
      onStoreAway(error);
      await delay(storeRetryMs, undefined, { signal });
    }
  }
}

function linksTo(scope: Context): Link[] {
  const span = trace.getSpanContext(scope);
  return span === undefined ? [] : [{ context: span }];
}
