import { create } from "@bufbuild/protobuf";
import { type Context, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import type { CallLogFields } from "../app/call-log.js";
import type { Engine, GenerateOptions } from "../engine/engine.js";
import { stepsToRun } from "../engine/strength.js";
import { type InferRequest, type InferResponse, InferResponseSchema } from "../gen/throughline/v1/worker_pb.js";
import type { ImageDecoder } from "../image/decode-image.js";
import { deliveryOf } from "../image/delivery.js";
import type { ImageStore } from "../image/image-store.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import { readCallerContext } from "../trace/carrier.js";
import { withSpan } from "../trace/span-scope.js";
import { type Admission, AdmissionError, type Slot } from "./admission.js";
import { diffusion, upload } from "./diffusion.js";
import { toConnectError } from "./errors.js";
import { imageTexts } from "./image-texts.js";
import { contractSettings, encodingOf, type Job, jobOf } from "./job.js";
import { describeProgress, type InferEvent, type InferProgress, progressOf, uploading } from "./progress.js";
import type { WorkerMetrics } from "./worker-metrics.js";

/** Dependencies of {@link infer}. */
export interface InferContext {
  readonly engine: Engine;
  readonly admission: Admission;
  readonly tracer: Tracer;
  /** Tracer for the spans of an image's stages, which may be disabled. */
  readonly stageTracer: Tracer;
  readonly metrics: WorkerMetrics;
  /** Reads the images that requests start from. */
  readonly images: ImageDecoder;
  readonly propagator: TextMapPropagator;
  /** Use of a caller's trace headers if the body's carrier names no parent. */
  readonly headerPolicy: RemoteParent;
  /** Undefined: images are sent in the response. */
  readonly store: ImageStore | undefined;
  /** Whether `inference` has attributes of OpenTelemetry's GenAI conventions. */
  readonly genaiAttributes: boolean;
  /** Whether PNG files contain the prompt and the settings. */
  readonly imageMetadata: boolean;
}

/** Properties of a call besides its message. */
export interface InferCall {
  /** Aborted when the client disconnects, the deadline passes or the worker shuts down. */
  readonly signal: AbortSignal;
  /** Time from the receipt to the deadline, in milliseconds; undefined without one. */
  readonly remainingMs: number | undefined;
  /** Fairness key of the caller. */
  readonly caller: string;
  /** Base URL under which the caller reaches the store's images. */
  readonly baseUrl: string;
  /** The caller's headers. */
  readonly header: Headers;
  /** Called with the context of the call's span. */
  readonly onSpan: (scope: Context) => void;
  /** Adds fields to the call's log line. */
  readonly log: (fields: CallLogFields) => void;
}

/**
 * Run one request: validation → admission → `inference` span → queue → diffusion → upload → response. A request that is rejected by the
 * model's limits, at admission or for its image has no span.
 *
 * @param emit called with the progress. Absent: no progress and no previews.
 * @throws ConnectError made by {@link toConnectError}.
 */
export async function infer(
  request: InferRequest,
  call: InferCall,
  worker: InferContext,
  emit?: (event: InferEvent) => void,
): Promise<InferResponse> {
  const { engine, tracer, propagator, headerPolicy: policy } = worker;
  call.log({ model: engine.info.model });
  const receivedAt = performance.now();
  const { job, slot } = await admit(request, call, worker, emit !== undefined);
  try {
    const decoded = await readInitImage(job, call, worker);
    const caller = readCallerContext({ propagator, carrier: request.traceContext, header: call.header, policy });
    const { model } = engine.info;
    const attributes = {
      "model.name": model,
      "prompt.length": [...request.prompt].length,
      ...(worker.genaiAttributes && genaiAttributes(model)),
    };
    const options = { parent: caller.parent, links: [...caller.links], kind: SpanKind.SERVER, attributes };
    return await withSpan(tracer, "inference", options, (_span, scope) => {
      call.onSpan(scope);
      return generateImage({ job: decoded, receivedAt, call, worker, slot, parent: scope, emit });
    });
  } finally {
    slot.release();
  }
}

/** @see https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/ */
function genaiAttributes(model: string) {
  return {
    "gen_ai.operation.name": "generate_content",
    "gen_ai.output.type": "image",
    "gen_ai.request.model": model,
  };
}

/** Validate a request and admit it to the queue. Of an image, the header is validated here: its pixels wait for a slot. */
async function admit(
  request: InferRequest,
  { caller, remainingMs, signal }: InferCall,
  worker: InferContext,
  withPreviews: boolean,
) {
  try {
    const job = jobOf(request, worker.engine, withPreviews);
    if (job.initImage !== undefined) {
      await worker.images.inspect(job.initImage);
      signal.throwIfAborted();
    }
    const result = worker.admission.admit({ work: job.work, caller, remainingMs });
    if (result.kind !== "admitted") {
      throw new AdmissionError(result);
    }
    return { job, slot: result.slot };
  } catch (error) {
    throw toConnectError(error, signal, () => "waiting for admission");
  }
}

/**
 * Decode the image of an admitted request, while it waits. Slots are few, so that images cannot take more than the queue's share of memory; and a
 * damaged image fails before the request has a span and without a turn of the engine.
 */
async function readInitImage(job: Job, { signal }: InferCall, { images }: InferContext): Promise<Job> {
  const { initImage, settings } = job;
  if (initImage === undefined) {
    return job;
  }
  try {
    const pixels = await images.decode(initImage, settings, signal);
    return { ...job, initImage: undefined, request: { ...job.request, initImage: pixels } };
  } catch (error) {
    throw toConnectError(error, signal, () => "reading the image to start from");
  }
}

interface AdmittedRequest {
  readonly job: Job;
  /** Of the request, by `performance.now()`. */
  readonly receivedAt: number;
  readonly call: InferCall;
  readonly worker: InferContext;
  readonly slot: Slot;
  readonly parent: Context;
  readonly emit: ((event: InferEvent) => void) | undefined;
}

async function generateImage(admitted: AdmittedRequest): Promise<InferResponse> {
  const { job, receivedAt, call, worker, slot, parent, emit } = admitted;
  const { request, settings, options } = job;
  const { signal, remainingMs } = call;
  const { engine, metrics, store } = worker;
  const queuedAt = performance.now();
  let progress = () => `queued at position ${slot.position().position}`;
  const report = (value: InferProgress | undefined) => {
    if (value !== undefined) {
      progress = () => describeProgress(value);
      emit?.({ case: "progress", value });
    }
  };
  try {
    await slot.acquire(signal, emit && ((value) => emit({ case: "queued", value })));
    const turnAt = performance.now();
    const queueMs = turnAt - queuedAt;
    progress = () => "waiting for the engine";
    metrics.waited(queueMs);
    const miss = remainingMs === undefined ? undefined : slot.deadlineMiss(remainingMs - (turnAt - receivedAt));
    if (miss !== undefined) {
      throw new AdmissionError({ kind: "deadline-miss", ...miss, queuedMs: queueMs });
    }

    const onEvent: GenerateOptions["onEvent"] = (event) => report(progressOf(event, stepsToRun(settings)));
    const { pixels, timings, truncatedTokens } = await diffusion(worker, parent, request, { signal, onEvent });
    // The next request can use the engine while this image is encoded and stored.
    slot.release(timings);

    report(uploading);
    const uploadAt = performance.now();
    const delivery = deliveryOf(options, store && { store, baseUrl: call.baseUrl });
    const origin = { ...request, settings, model: engine.info.model };
    const encoding = { ...encodingOf(options), texts: worker.imageMetadata ? imageTexts(origin) : undefined };
    const image = await upload(worker, parent, pixels, encoding, delivery);
    const doneAt = performance.now();
    const uploadMs = doneAt - uploadAt;
    metrics.stageTook("upload", uploadMs);

    return create(InferResponseSchema, {
      image,
      seed: settings.seed,
      timings: { ...timings, queueMs, uploadMs, totalMs: doneAt - receivedAt },
      model: engine.info.model,
      executionProvider: engine.info.executionProvider,
      truncatedTokens,
      settings: contractSettings(settings),
      defaultsReason: engine.info.defaultsReason ?? "",
    });
  } catch (error) {
    throw toConnectError(error, signal, progress);
  }
}
