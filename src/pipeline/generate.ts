import { create } from "@bufbuild/protobuf";
import { type CallOptions, createContextValues } from "@connectrpc/connect";
import { type Context, SpanKind, type Tracer } from "@opentelemetry/api";
import type { AppClients } from "../app/app-clients.js";
import type { CallLogFields } from "../app/call-log.js";
import type { GenerateEvent } from "../calls/pipeline-calls.js";
import { Delivery, GenerationOptionsSchema, type Image, ImageSchema } from "../gen/throughline/v1/image_pb.js";
import {
  type GenerateRequest,
  type GenerateResponse,
  GenerateResponseSchema,
} from "../gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { deliverImage, deliveryOf, type ImageDelivery } from "../image/delivery.js";
import { type EncodedImage, formatOfContentType, parseDataUri } from "../image/image-format.js";
import type { ImageStore } from "../image/image-store.js";
import { ImageStoreError } from "../image/image-store-error.js";
import { seedOf } from "../image/seed.js";
import { callerHeader } from "../mesh/access/callers.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { internal, invalidField, storeFailure } from "../mesh/errors/errors.js";
import { otelContext } from "../otelconnect/otel-context.js";
import { requestLimits } from "../request-limits.js";
import { traceIdOf, withSpan } from "../trace/span-scope.js";
import { callWorker, type WorkerClient, workerFailure } from "./call-worker.js";

/** Dependencies of {@link generate}. */
export interface GenerateContext {
  /** The worker apps. */
  readonly directory: AppDirectory;
  /** Clients of the worker apps. Each call has a span `call-inference-worker` and sends the trace context. */
  readonly apps: Pick<AppClients, "client">;
  readonly tracer: Tracer;
  /** Undefined: images are sent in the response. */
  readonly store: ImageStore | undefined;
}

/** Properties of a call besides its message. */
export interface GenerateCall {
  /** Aborted when the client disconnects, the deadline passes or the pipeline shuts down. */
  readonly signal: AbortSignal;
  /** Signal and time limit of outgoing calls. */
  readonly onward: CallOptions;
  /** @throws ConnectError PERMISSION_DENIED if the caller may not use the app. */
  readonly checkMayUse: (appId: string) => void;
  /** Fairness key of the caller, forwarded to the worker. */
  readonly caller: string;
  /** Context whose span is `image-pipeline`. */
  readonly context: Context;
  /** Base URL under which the caller reaches the store's images. */
  readonly baseUrl: string;
  /** Adds fields to the call's log line. */
  readonly log: (fields: CallLogFields) => void;
  /** Counts the call as work of an app, until the returned function is called. */
  readonly begin: (appId: string) => () => void;
}

/**
 * Run one request: clean the prompt → find the worker → call the worker → deliver the image.
 *
 * @param emit called with the progress. Absent: no progress, and the worker's unary RPC is called.
 * @throws ConnectError
 */
export async function generate(
  request: GenerateRequest,
  call: GenerateCall,
  pipeline: GenerateContext,
  emit?: (event: GenerateEvent) => void,
): Promise<GenerateResponse> {
  const { tracer, store } = pipeline;
  const { context, signal, onward, caller } = call;

  const prompt = await preprocess(request.prompt, tracer, context);
  const { appId, worker } = findWorker(request.workerApp, call, pipeline);
  const wanted = { ...(request.options ?? create(GenerationOptionsSchema)), seed: seedOf(request.options) };
  const options = { ...wanted, delivery: Delivery.INLINE };
  const inferRequest = create(InferRequestSchema, { prompt, options });
  const callOptions = {
    ...onward,
    headers: { [callerHeader]: caller },
    // The client writes this context into the request's `trace_context`, so that the worker's span is a child of `image-pipeline`.
    contextValues: createContextValues().set(otelContext, context),
  };
  const end = call.begin(appId);
  const response = await callWorker(worker, inferRequest, callOptions, emit)
    .catch((error: unknown) => {
      throw workerFailure(error, signal);
    })
    .finally(end);
  if (response?.image === undefined) {
    throw internal("the worker returned no image");
  }
  if (request.options?.initImage !== undefined && response.settings?.strength === undefined) {
    // A worker of an older contract does not know the field, and has generated another image than the one asked for.
    throw internal("the worker ignored init_image: its version has no image to image; update the worker");
  }

  call.log({ model: response.model });
  const { $typeName: _, image, ...generated } = response;
  const delivered = await deliver(image, deliveryOf(request.options, store && { store, baseUrl: call.baseUrl }));
  return create(GenerateResponseSchema, { ...generated, image: delivered, traceId: traceIdOf(context) });
}

/** Look up the worker; the empty id selects the default app. The permission is checked first, because NOT_FOUND lists all apps. */
function findWorker(
  wanted: string,
  call: GenerateCall,
  { directory, apps }: GenerateContext,
): { readonly appId: string; readonly worker: WorkerClient } {
  const checked = wanted === "" ? directory.defaultApp : wanted;
  if (checked !== undefined) {
    call.checkMayUse(checked);
  }
  const { appId } = directory.lookUp(wanted);
  call.log({ workerApp: appId });
  return { appId, worker: apps.client(appId, TextToImageWorkerService) };
}

function preprocess(raw: string, tracer: Tracer, parent: Context): Promise<string> {
  const attributes = { "prompt.length": codePointLength(raw) };
  return withSpan(tracer, "preprocess-prompt", { parent, kind: SpanKind.INTERNAL, attributes }, () => {
    const prompt = cleanPrompt(raw);
    const length = codePointLength(prompt);
    // Checked again: NFC can lengthen a text.
    const { maxPromptLength } = requestLimits;
    if (length < 1 || length > maxPromptLength) {
      throw invalidField("prompt", `a cleaned prompt has 1 to ${maxPromptLength} code points, this one has ${length}`);
    }
    return prompt;
  });
}

/** Tabs and line breaks. They become spaces before the control characters (Cc), which include most of them, are removed. */
const breaks = /[\t\n\v\f\r\u0085\u2028\u2029]/gu;
/** Control characters (Cc). Joiners (U+200C, U+200D) are Cf and are kept: emoji and scripts need them. */
const controls = /\p{Cc}/gu;

/**
 * Clean a prompt: tabs and line breaks to spaces, control characters removed, NFC, white space collapsed, trimmed. Idempotent; the result may
 * be empty.
 */
export function cleanPrompt(raw: string): string {
  return raw.replace(breaks, " ").replace(controls, "").normalize("NFC").replace(/\s+/gu, " ").trim();
}

/** Count the Unicode code points of a text. */
export function codePointLength(text: string): number {
  let length = 0;
  for (const _ of text) {
    length++;
  }
  return length;
}

/**
 * Deliver a worker's image to the pipeline's caller: by the pipeline's own store, because callers may not reach the worker's, or in the
 * response. A worker's http(s) URL is forwarded unchanged.
 *
 * @throws ConnectError INTERNAL if the worker returned neither an image of a known type nor an http(s) URL, because callers may open it;
 * UNAVAILABLE if the store is full.
 */
export async function deliver(image: Image, delivery: ImageDelivery): Promise<Image> {
  const encoded = encodedOf(image);
  if (encoded === undefined && isWebUrl(image.url)) {
    return image;
  }
  if (encoded === undefined || encoded.bytes.length === 0) {
    throw internal("the worker returned no image");
  }
  const delivered = await deliverImage(encoded, delivery).catch((error: unknown) => {
    throw error instanceof ImageStoreError ? storeFailure(error.reason, error) : error;
  });
  return create(ImageSchema, delivered);
}

/** Extract the image from a worker's response: its bytes, or the `data:` URI of a version 1 worker. */
function encodedOf({ data, contentType, url, width, height }: Image): EncodedImage | undefined {
  if (data.length === 0) {
    const parsed = parseDataUri(url);
    return parsed && { ...parsed, width, height };
  }
  const format = formatOfContentType(contentType);
  return format && { bytes: data, format, width, height };
}

function isWebUrl(url: string): boolean {
  return /^https?:\/\//i.test(url) && URL.canParse(url);
}
