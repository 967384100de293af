import { randomInt } from "node:crypto";
import { create, type DescMethod, type MessageInitShape } from "@bufbuild/protobuf";
import type { CallOptions, Client } from "@connectrpc/connect";
import { type Context, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import type { AppClients } from "../app/app-clients.js";
import { Delivery, GenerationOptionsSchema } from "../gen/throughline/v1/image_pb.js";
import type { GenerateRequest, GenerateStreamResponseSchema } from "../gen/throughline/v1/pipeline_pb.js";
import {
  type InferRequest,
  InferRequestSchema,
  type InferResponse,
  type InferStreamResponse,
  TextToImageWorkerService,
} from "../gen/throughline/v1/worker_pb.js";
import type { ImageStore } from "../image/image-store.js";
import { callerHeader } from "../mesh/access/sharing-key.js";
import type { AppDirectory } from "../mesh/directory/app-directory.js";
import { internal, invalidField } from "../mesh/errors/errors.js";
import { injectCarrier } from "../trace/carrier.js";
import { iterateWithClientSpan } from "../trace/client-span.js";
import { withSpan } from "../trace/span-scope.js";
import { traceIdOf } from "../trace/trace-id.js";
import { cleanPrompt, codePointLength } from "./clean-prompt.js";
import { deliver } from "./deliver.js";
import { withWorkerFailures } from "./worker-failure.js";

/** What the pipeline needs to answer a request. */
export interface GenerateContext {
  /** The worker apps. */
  readonly directory: AppDirectory;
  /** Their clients, which make no spans for calls. */
  readonly apps: Pick<AppClients, "client">;
  readonly tracer: Tracer;
  readonly propagator: TextMapPropagator;
  /** Undefined: pictures travel as `data:` URIs. */
  readonly store: ImageStore | undefined;
}

/** What is known of a call besides its message. */
export interface GenerateCall {
  /** Aborted when the client leaves, the deadline passes or the pipeline shuts down. */
  readonly signal: AbortSignal;
  /** Milliseconds for the worker; undefined without a deadline. */
  readonly remainingMs: number | undefined;
  /** Throws PERMISSION_DENIED where the caller may not use the app. */
  readonly checkMayUse: (appId: string) => void;
  /** Sharing key of the caller, which the worker is told. */
  readonly caller: string;
  /** Context whose span is `image-pipeline`. */
  readonly context: Context;
  /** Base URL under which the caller reaches the store's pictures. */
  readonly baseUrl: string;
}

/** A worker app with its typed client. */
export interface WorkerClient {
  readonly appId: string;
  readonly client: Client<typeof TextToImageWorkerService>;
}

/** One of the worker's two rpcs, as a stream of events. */
export interface WorkerRpc {
  readonly method: DescMethod;
  readonly call: (worker: WorkerClient, request: InferRequest, options: CallOptions) => AsyncIterable<InferEvent>;
}

type InferEvent = InferStreamResponse["event"];
type GenerateEvent = NonNullable<MessageInitShape<typeof GenerateStreamResponseSchema>["event"]>;

/** The contract's limit, checked again because NFC can lengthen a text. */
const maxPromptLength = 2000;

/**
 * The way of one request through the pipeline, told as the stream's events: clean the prompt → find the worker → inject the carrier →
 * call the worker → deliver the picture.
 *
 * @throws ConnectError
 */
export async function* generate(
  request: GenerateRequest,
  call: GenerateCall,
  rpc: WorkerRpc,
  pipeline: GenerateContext,
): AsyncGenerator<GenerateEvent> {
  const { tracer } = pipeline;
  const { context } = call;

  const prompt = await preprocess(request.prompt, tracer, context);
  const worker = findWorker(request.workerApp, call, pipeline);
  // Drawn here and not by the worker, so that a second try paints the same picture.
  const seed = request.options?.seed ?? randomInt(2 ** 32);
  const target = wantsUrl(request) && pipeline.store ? { store: pipeline.store, baseUrl: call.baseUrl } : undefined;

  const inferRequest = create(InferRequestSchema, {
    prompt,
    // Injected while `image-pipeline` is the current span: the worker's span becomes its child, a sibling of the call's.
    traceContext: injectCarrier(pipeline.propagator, context),
    options: { ...(request.options ?? create(GenerationOptionsSchema)), seed, delivery: Delivery.DATA_URI },
  });
  const options: CallOptions = {
    signal: call.signal,
    headers: { [callerHeader]: call.caller },
    ...(call.remainingMs !== undefined && { timeoutMs: call.remainingMs }),
  };

  const events = iterateWithClientSpan(
    tracer,
    { name: "call-inference-worker", parent: context, appId: worker.appId, method: rpc.method },
    () => rpc.call(worker, inferRequest, options),
  );
  let result: InferResponse | undefined;
  for await (const event of withWorkerFailures(events, call.signal)) {
    switch (event.case) {
      case "queued":
      case "progress":
        yield event;
        break;
      case "result":
        result = event.value;
        break;
      case undefined:
        // An event of a newer contract.
        break;
    }
  }
  if (result?.image === undefined) {
    throw internal("the worker answered without a picture");
  }
  const { $typeName: _, image, ...painted } = result;
  yield {
    case: "result",
    value: { ...painted, image: await deliver(image, target), traceId: traceIdOf(context) },
  };
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
  return withSpan(tracer, "preprocess-prompt", { parent, kind: SpanKind.INTERNAL, attributes }, async () => {
    const prompt = cleanPrompt(raw);
    const length = codePointLength(prompt);
    if (length < 1 || length > maxPromptLength) {
      throw invalidField("prompt", `a cleaned prompt has 1 to ${maxPromptLength} code points, this one has ${length}`);
    }
    return prompt;
  });
}

function wantsUrl({ options }: GenerateRequest): boolean {
  return options?.delivery !== Delivery.DATA_URI;
}
