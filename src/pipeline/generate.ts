import { create } from "@bufbuild/protobuf";
import { type CallOptions, createContextValues } from "@connectrpc/connect";
import { type Context, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import type { AppClients } from "../app/app-clients.js";
import { GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import {
  type GenerateRequest,
  type GenerateResponse,
  GenerateResponseSchema,
} from "../gen/throughline/v1/pipeline_pb.js";
import { InferRequestSchema, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import type { ImageStore } from "../image/image-store.js";
import { seedOf } from "../image/seed.js";
import { callerHeader } from "../mesh/access/sharing-key.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { internal, invalidField } from "../mesh/errors/errors.js";
import { otelContext } from "../otelconnect/otel-context.js";
import { injectCarrier } from "../trace/carrier.js";
import { withSpan } from "../trace/span-scope.js";
import { traceIdOf } from "../trace/trace-id.js";
import { callWorker, type GenerateEvent, type WorkerClient } from "./call-worker.js";
import { cleanPrompt, codePointLength } from "./clean-prompt.js";
import { deliver, deliveryOf } from "./deliver.js";
import type { InlineSupport } from "./inline-support.js";
import { workerFailure } from "./worker-failure.js";

/** What the pipeline needs to answer a request. */
export interface GenerateContext {
  /** The worker apps. */
  readonly directory: AppDirectory;
  /** Their clients, which make the span `call-inference-worker` of each call. */
  readonly apps: Pick<AppClients, "client">;
  readonly inline: InlineSupport;
  readonly tracer: Tracer;
  readonly propagator: TextMapPropagator;
  /** Undefined: images travel inside the response. */
  readonly store: ImageStore | undefined;
}

/** What is known of a call besides its message. */
export interface GenerateCall {
  /** Aborted when the client disconnects, the deadline passes or the pipeline shuts down. */
  readonly signal: AbortSignal;
  /** Signal and time limit of the calls that it leads to. */
  readonly onward: CallOptions;
  /** Throws PERMISSION_DENIED where the caller may not use the app. */
  readonly checkMayUse: (appId: string) => void;
  /** Fairness key of the caller, which is passed on to the worker. */
  readonly caller: string;
  /** Context whose span is `image-pipeline`. */
  readonly context: Context;
  /** Base URL under which the caller reaches the store's images. */
  readonly baseUrl: string;
}

/** The contract's limit, checked again because NFC can lengthen a text. */
const maxPromptLength = 2000;

/**
 * One request: clean the prompt → find the worker → inject the carrier → call the worker → deliver the image.
 *
 * @param emit called with the progress. Absent: nobody reads it, and the worker's unary rpc is called.
 * @throws ConnectError
 */
export async function generate(
  request: GenerateRequest,
  call: GenerateCall,
  pipeline: GenerateContext,
  emit?: (event: GenerateEvent) => void,
): Promise<GenerateResponse> {
  const { tracer, propagator, store, inline } = pipeline;
  const { context, signal, onward, caller, baseUrl } = call;

  const prompt = await preprocess(request.prompt, tracer, context);
  const worker = findWorker(request.workerApp, call, pipeline);
  // Injected while `image-pipeline` is the current span: the worker's span becomes its child, a sibling of the call's.
  const traceContext = injectCarrier(propagator, context);
  const wanted = { ...(request.options ?? create(GenerationOptionsSchema)), seed: seedOf(request.options) };

  const options = () => ({
    ...onward,
    headers: { [callerHeader]: caller },
    contextValues: createContextValues().set(otelContext, context),
  });
  const response = await inline
    .call(worker.appId, (delivery) => {
      const inferRequest = create(InferRequestSchema, { prompt, traceContext, options: { ...wanted, delivery } });
      return callWorker(worker, inferRequest, options(), emit);
    })
    .catch((error: unknown) => {
      throw workerFailure(error, signal);
    });
  if (response?.image === undefined) {
    throw internal("the worker answered without a picture");
  }

  const { $typeName: _, image, ...generated } = response;
  const delivered = await deliver(image, deliveryOf(request.options, store && { store, baseUrl }));
  return create(GenerateResponseSchema, { ...generated, image: delivered, traceId: traceIdOf(context) });
}

/** What the caller may not use, it is not told of: a look-up that finds nothing names all apps. */
function findWorker(wanted: string, call: GenerateCall, { directory, apps }: GenerateContext): WorkerClient {
  if (wanted !== "") {
    call.checkMayUse(wanted);
  }
  const { appId } = directory.lookUp(wanted);
  call.checkMayUse(appId);
  return { appId, client: apps.client(appId, TextToImageWorkerService) };
}

function preprocess(raw: string, tracer: Tracer, parent: Context): Promise<string> {
  const attributes = { "prompt.length": codePointLength(raw) };
  return withSpan(tracer, "preprocess-prompt", { parent, kind: SpanKind.INTERNAL, attributes }, () => {
    const prompt = cleanPrompt(raw);
    const length = codePointLength(prompt);
    if (length < 1 || length > maxPromptLength) {
      throw invalidField("prompt", `a cleaned prompt has 1 to ${maxPromptLength} code points, this one has ${length}`);
    }
    return prompt;
  });
}
