import type { CallOptions, Client } from "@connectrpc/connect";
import { type Context, SpanKind, type Tracer } from "@opentelemetry/api";
import type { Progress, Queued } from "../gen/throughline/v1/image_pb.js";
import { type InferRequest, type InferResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { serverCodeOf } from "../otelconnect/error-code.js";
import { grpcStatusName } from "../otelconnect/status-codes.js";
import { clientAttributes } from "../trace/client-span.js";
import { rpcStatusCode } from "../trace/settle-span.js";
import { withSpan } from "../trace/span-scope.js";

/** What a request reports while it runs. */
export type GenerateEvent =
  | { readonly case: "queued"; readonly value: Queued }
  | { readonly case: "progress"; readonly value: Progress };

/** A worker app with its typed client. */
export interface WorkerClient {
  readonly appId: string;
  readonly client: Client<typeof TextToImageWorkerService>;
}

/** One call of a worker. */
export interface WorkerCall {
  readonly tracer: Tracer;
  /** Context of the `image-pipeline` span. */
  readonly parent: Context;
  readonly options: CallOptions;
  /** Called with the progress. Absent: the unary rpc is called, which may be retried until its response. */
  readonly emit: ((event: GenerateEvent) => void) | undefined;
}

/** Calls a worker on a CLIENT span. Undefined where its stream ends without a result. */
export function callWorker(
  { appId, client }: WorkerClient,
  request: InferRequest,
  { tracer, parent, options, emit }: WorkerCall,
): Promise<InferResponse | undefined> {
  const { infer, inferStream } = TextToImageWorkerService.method;
  const attributes = clientAttributes(appId, emit === undefined ? infer : inferStream);
  return withSpan(tracer, "call-inference-worker", { parent, kind: SpanKind.CLIENT, attributes }, async (span) => {
    try {
      const response = await (emit === undefined
        ? client.infer(request, options)
        : readStream(client.inferStream({ request }, options), emit));
      span.setAttribute(rpcStatusCode, "OK");
      return response;
    } catch (error) {
      span.setAttribute(rpcStatusCode, grpcStatusName(serverCodeOf(error)));
      throw error;
    }
  });
}

/** To its end: only then is the call known to be good. */
async function readStream(
  events: ReturnType<WorkerClient["client"]["inferStream"]>,
  emit: (event: GenerateEvent) => void,
): Promise<InferResponse | undefined> {
  let result: InferResponse | undefined;
  for await (const { event } of events) {
    switch (event.case) {
      case "queued":
      case "progress":
        emit(event);
        break;
      case "result":
        result = event.value;
        break;
      case undefined:
        // An event of a newer contract.
        break;
    }
  }
  return result;
}
