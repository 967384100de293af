import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { Progress, Queued } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest, InferResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { internal } from "../mesh/errors/errors.js";

/** What a request reports while it runs. */
export type GenerateEvent =
  | { readonly case: "queued"; readonly value: Queued }
  | { readonly case: "progress"; readonly value: Progress };

/** A worker app with its typed client. */
export interface WorkerClient {
  readonly appId: string;
  readonly client: Client<typeof TextToImageWorkerService>;
}

/**
 * Calls a worker. Undefined where its stream ends without a result.
 *
 * @param emit called with the progress. Absent: the unary rpc is called, which may be retried until its response.
 */
export async function callWorker(
  { client }: WorkerClient,
  request: InferRequest,
  options: CallOptions,
  emit: ((event: GenerateEvent) => void) | undefined,
): Promise<InferResponse | undefined> {
  return emit === undefined
    ? await client.infer(request, options)
    : await readStream(client.inferStream({ request }, options), emit);
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

/** What a worker says of the pipeline itself, not of the pipeline's caller. */
const notTheCallers: ReadonlySet<Code> = new Set([Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]);

/** Longest text of a worker that is passed on, in code points. */
const maxMessageLength = 1_000;

/**
 * What the pipeline's caller is told of a failed call to a worker. A worker that does not let the pipeline in, or cancels, is INTERNAL, with
 * the code as the cause for the log; other failures stay, with a long text cut.
 *
 * @param signal the caller's: where it is aborted the failure is the caller's own.
 */
export function workerFailure(error: unknown, signal: AbortSignal): unknown {
  if (!(error instanceof ConnectError) || signal.aborted) {
    return error;
  }
  if (notTheCallers.has(error.code)) {
    return internal(
      "the worker did not take the pipeline's call",
      new Error(`the worker answered ${Code[error.code]}`),
    );
  }
  if (error.rawMessage.length > maxMessageLength) {
    const text = [...error.rawMessage.slice(0, 2 * maxMessageLength)].slice(0, maxMessageLength).join("");
    const cut = new ConnectError(text, error.code, error.metadata, undefined, error.cause);
    cut.details = error.details;
    return cut;
  }
  return error;
}
