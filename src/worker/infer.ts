import { create } from "@bufbuild/protobuf";
import { type Context, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import type { Engine, GenerateOptions } from "../engine/engine.js";
import { type InferRequest, type InferResponse, InferResponseSchema } from "../gen/throughline/v1/worker_pb.js";
import type { ImageStore } from "../image/image-store.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import { readCallerContext } from "../trace/carrier.js";
import { withSpan } from "../trace/span-scope.js";
import { type Admission, admit, type Slot } from "./admission.js";
import { deadlineMissError } from "./deadline-check.js";
import { diffusion, upload } from "./diffusion.js";
import { generationErrorToConnect } from "./generation-error-to-connect.js";
import { deliveryOf, encodingOf, type Job, jobOf } from "./job.js";
import { describeProgress, type InferEvent, type InferProgress, progressOf, uploading } from "./progress.js";
import type { WorkerMetrics } from "./worker-metrics.js";

/** What the worker needs to answer a request. */
export interface InferContext {
  readonly engine: Engine;
  readonly admission: Admission;
  readonly tracer: Tracer;
  /** Makes the spans of an image's stages, where they are wanted. */
  readonly stageTracer: Tracer;
  readonly metrics: WorkerMetrics;
  readonly propagator: TextMapPropagator;
  /** What a caller's trace headers mean where the body's carrier names no parent. */
  readonly headerPolicy: RemoteParent;
  /** Undefined: images travel inside the response. */
  readonly store: ImageStore | undefined;
}

/** What is known of a call besides its message. */
export interface InferCall {
  /** Aborted when the client disconnects, the deadline passes or the worker shuts down. */
  readonly signal: AbortSignal;
  /** Milliseconds from its receipt until the deadline; undefined without one. */
  readonly remainingMs: number | undefined;
  /** Fairness key of the caller. */
  readonly caller: string;
  /** Base URL under which the caller reaches the store's images. */
  readonly baseUrl: string;
  /** The caller's headers. */
  readonly header: Headers;
  /** Called with the context of the call's span, once there is one. */
  readonly onSpan: (scope: Context) => void;
}

/**
 * One request: check → admission → `inference` span → turn → diffusion → upload → response. A request that the model cannot take, or that is
 * rejected at admission, makes no span.
 *
 * @param emit called with the progress. Absent: nobody reads it, and the engine makes no previews.
 * @throws ConnectError
 */
export async function infer(
  request: InferRequest,
  call: InferCall,
  worker: InferContext,
  emit?: (event: InferEvent) => void,
): Promise<InferResponse> {
  const { engine, admission, tracer, propagator, headerPolicy: policy } = worker;
  const job = jobOf(request, engine, emit !== undefined);
  const slot = admit({ work: job.work, caller: call.caller, remainingMs: call.remainingMs }, admission);
  try {
    const caller = readCallerContext({ propagator, carrier: request.traceContext, header: call.header, policy });
    const attributes = { "model.name": engine.info.model, "prompt.length": [...request.prompt].length };
    const options = { parent: caller.parent, links: [...caller.links], kind: SpanKind.SERVER, attributes };
    return await withSpan(tracer, "inference", options, (_span, scope) => {
      call.onSpan(scope);
      return generateInTurn({ job, call, worker, slot, parent: scope, emit });
    });
  } finally {
    slot.release();
  }
}

interface AdmittedRequest {
  readonly job: Job;
  readonly call: InferCall;
  readonly worker: InferContext;
  readonly slot: Slot;
  readonly parent: Context;
  readonly emit: ((event: InferEvent) => void) | undefined;
}

async function generateInTurn({ job, call, worker, slot, parent, emit }: AdmittedRequest): Promise<InferResponse> {
  const { request, settings, options } = job;
  const { signal, remainingMs } = call;
  const { engine, metrics, store } = worker;
  const receivedAt = performance.now();
  let where = () => `queued at position ${slot.position().position}`;
  const report = (value: InferProgress | undefined) => {
    if (value !== undefined) {
      where = () => describeProgress(value);
      emit?.({ case: "progress", value });
    }
  };
  try {
    await slot.turn(signal, emit && ((value) => emit({ case: "queued", value })));
    const queueMs = performance.now() - receivedAt;
    where = () => "waiting for the engine";
    metrics.waited(queueMs);
    const late = remainingMs === undefined ? undefined : slot.deadlineMiss(remainingMs - queueMs);
    if (late !== undefined) {
      throw deadlineMissError(late, queueMs);
    }

    const onEvent: GenerateOptions["onEvent"] = (event) => report(progressOf(event, settings.steps));
    const { pixels, timings, truncatedTokens } = await diffusion(worker, parent, request, { signal, onEvent });
    // The next request has the engine while this one's image is encoded and stored.
    slot.release(timings);

    report(uploading);
    const uploadAt = performance.now();
    const delivery = deliveryOf(options, store && { store, baseUrl: call.baseUrl });
    const image = await upload(worker, parent, pixels, encodingOf(options), delivery);
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
    });
  } catch (error) {
    throw generationErrorToConnect(error, signal, where);
  }
}
