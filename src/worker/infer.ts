import type { MessageInitShape } from "@bufbuild/protobuf";
import { type Context, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import type { Engine, PaintEvent, PaintTimings } from "../engine/engine.js";
import { type ProgressSchema, Stage } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest, InferStreamResponseSchema } from "../gen/throughline/v1/worker_pb.js";
import { encodeImage } from "../image/encode-image.js";
import { contentTypeOf } from "../image/image-format.js";
import type { ImageStore } from "../image/image-store.js";
import type { RemoteParent } from "../otelconnect/remote-parent.js";
import { readCallerContext } from "../trace/caller-context.js";
import { iterateWithSpan } from "../trace/span-scope.js";
import type { Admission, Place } from "./admission.js";
import { admit } from "./admit.js";
import { diffusion } from "./diffusion.js";
import { encodingOf, wantsDataUri } from "./generation-options.js";
import { type Job, jobOf } from "./job.js";
import { paintErrorToConnect } from "./paint-error-to-connect.js";
import { relay } from "./relay.js";
import { tooLateError } from "./too-late.js";
import { upload } from "./upload.js";
import { createWhereabouts } from "./whereabouts.js";
import type { WorkerMetrics } from "./worker-metrics.js";

/** What the worker needs to answer a request. */
export interface InferContext {
  readonly engine: Engine;
  readonly admission: Admission;
  readonly tracer: Tracer;
  /** Makes the spans of a painting's stages, where they are wanted. */
  readonly stageTracer: Tracer;
  readonly metrics: WorkerMetrics;
  readonly propagator: TextMapPropagator;
  /** What a caller's trace headers mean where the body's carrier names no parent. */
  readonly headerPolicy: RemoteParent;
  /** Undefined: pictures travel as `data:` URIs. */
  readonly store: ImageStore | undefined;
}

/** What is known of a call besides its message. */
export interface InferCall {
  /** Aborted when the client leaves, the deadline passes or the worker shuts down. */
  readonly signal: AbortSignal;
  /** Milliseconds from its receipt until the deadline; undefined without one. */
  readonly remainingMs: number | undefined;
  /** Sharing key of the caller. */
  readonly caller: string;
  /** Base URL under which the caller reaches the store's pictures. */
  readonly baseUrl: string;
  /** The caller's headers. */
  readonly header: Headers;
  /** Told the context with the call's span, once there is one. */
  readonly onSpan: (scope: Context) => void;
}

/** One event of the stream: queued, progress, or the result, which is the last. */
export type InferEvent = NonNullable<MessageInitShape<typeof InferStreamResponseSchema>["event"]>;

/**
 * The way of one request through the worker, told as the stream's events: check → admission → `inference` span → turn → diffusion → upload →
 * result. A request that the model cannot take, or that is refused at the door, makes no span.
 *
 * @throws ConnectError
 */
export async function* infer(request: InferRequest, call: InferCall, worker: InferContext): AsyncGenerator<InferEvent> {
  const job = jobOf(request, worker.engine);
  const place = admit({ work: job.work, caller: call.caller, remainingMs: call.remainingMs }, worker.admission);
  const { parent, links } = readCallerContext({
    propagator: worker.propagator,
    carrier: request.traceContext,
    header: call.header,
    policy: worker.headerPolicy,
  });
  const attributes = { "model.name": worker.engine.info.model, "prompt.length": [...request.prompt].length };
  try {
    yield* iterateWithSpan(
      worker.tracer,
      "inference",
      { parent, links: [...links], kind: SpanKind.SERVER, attributes },
      (_span, scope) => {
        call.onSpan(scope);
        return paintInTurn(job, call, worker, place, scope);
      },
    );
  } finally {
    place.leave();
  }
}

async function* paintInTurn(
  job: Job,
  call: InferCall,
  worker: InferContext,
  place: Place,
  parent: Context,
): AsyncGenerator<InferEvent> {
  const { signal } = call;
  const { engine } = worker;
  const { request, settings, options } = job;
  const where = createWhereabouts();
  const receivedAt = performance.now();
  try {
    for await (const queued of place.turn(signal)) {
      where.queued(queued);
      yield { case: "queued", value: queued };
    }
    const queueMs = performance.now() - receivedAt;
    where.turn();
    worker.metrics.waited(queueMs);
    const late = call.remainingMs === undefined ? undefined : place.tooLate(call.remainingMs - queueMs);
    if (late !== undefined) {
      throw tooLateError(late, queueMs);
    }

    const painting = diffusion(worker, parent, request, signal);
    let image: PaintedImage | undefined;
    for await (const event of relay(leavingAfter(place, painting), { onBacklog: dropOldestPreview })) {
      switch (event.kind) {
        case "settings":
          break;
        case "image":
          image = event;
          break;
        case "stage":
        case "step": {
          const progress = await progressOf(event, settings.steps);
          where.progress(progress);
          yield { case: "progress", value: progress };
          break;
        }
      }
    }
    if (image === undefined) {
      throw new Error("the engine ended without a picture");
    }

    const uploading = { stage: Stage.UPLOAD, step: 0, totalSteps: 0 };
    where.progress(uploading);
    yield { case: "progress", value: uploading };
    const uploadStartedAt = performance.now();
    const target = worker.store && !wantsDataUri(options) ? { store: worker.store, baseUrl: call.baseUrl } : undefined;
    const uploaded = await upload(worker, parent, image.pixels, encodingOf(options), target);
    const doneAt = performance.now();
    worker.metrics.stageTook("upload", doneAt - uploadStartedAt);

    const timings = { ...image.timings, queueMs, uploadMs: doneAt - uploadStartedAt, totalMs: doneAt - receivedAt };
    const { model, executionProvider } = engine.info;
    const { truncatedTokens } = image;
    yield {
      case: "result",
      value: { image: uploaded, seed: settings.seed, timings, model, executionProvider, truncatedTokens },
    };
  } catch (error) {
    throw paintErrorToConnect(error, signal, where.toString());
  }
}

const stages = {
  "text-encoding": Stage.TEXT_ENCODING,
  denoising: Stage.DENOISING,
  "vae-decode": Stage.VAE_DECODE,
} as const;

type PaintProgress = Extract<PaintEvent, { kind: "stage" | "step" }>;
type PaintedImage = Extract<PaintEvent, { kind: "image" }>;

/** The engine is free for the next request as soon as a painting ends: whatever its reader does, and while the picture is stored. */
async function* leavingAfter(place: Place, painting: AsyncIterable<PaintEvent>): AsyncGenerator<PaintEvent> {
  let timings: PaintTimings | undefined;
  try {
    for await (const event of painting) {
      if (event.kind === "image") {
        timings = event.timings;
      }
      yield event;
    }
  } finally {
    place.leave(timings);
  }
}

/** Previews that wait for a reader; their pixels are the one thing that could pile up. */
const maxWaitingPreviews = 8;

/** A reader that stalls still gets every step, but only the newest previews. */
function dropOldestPreview(waiting: PaintEvent[]): void {
  const previews = waiting.flatMap((event, index) =>
    event.kind === "step" && event.preview ? [{ event, index }] : [],
  );
  const oldest = previews[0];
  if (oldest !== undefined && previews.length >= maxWaitingPreviews) {
    waiting[oldest.index] = { ...oldest.event, preview: undefined };
  }
}

async function progressOf(event: PaintProgress, totalSteps: number) {
  if (event.kind === "stage") {
    const stage = stages[event.stage];
    return { stage, step: 0, totalSteps: stage === Stage.DENOISING ? totalSteps : 0 } satisfies ProgressInit;
  }
  const preview = event.preview && (await encodeImage(event.preview, "jpeg"));
  return {
    stage: Stage.DENOISING,
    step: event.step,
    totalSteps,
    ...(preview && { preview: preview.bytes, previewContentType: contentTypeOf(preview.format) }),
  } satisfies ProgressInit;
}

type ProgressInit = MessageInitShape<typeof ProgressSchema>;
