import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { GenerateEvent } from "../calls/pipeline-calls.js";
import type { InferRequest, InferResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import { internal } from "../mesh/errors/errors.js";

/** Typed client of a worker app. */
export type WorkerClient = Client<typeof TextToImageWorkerService>;

/**
 * Call a worker. Returns undefined if its stream ends without a result.
 *
 * @param emit called with the progress. Absent: the unary RPC is called, which may be retried until its response.
 */
export async function callWorker(
  worker: WorkerClient,
  request: InferRequest,
  options: CallOptions,
  emit: ((event: GenerateEvent) => void) | undefined,
): Promise<InferResponse | undefined> {
  return emit === undefined
    ? await worker.infer(request, options)
    : await readStream(worker.inferStream({ request }, options), emit);
}

/** Read the stream to its end, which has the status. */
async function readStream(
  events: ReturnType<WorkerClient["inferStream"]>,
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
        // Event of a newer contract.
        break;
    }
  }
  return result;
}

/** Codes that concern the pipeline's own call, not the pipeline's caller. */
const internalCodes: ReadonlySet<Code> = new Set([Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]);

/** Maximum length of a forwarded message, in code points. */
const maxMessageLength = 1_000;

/**
 * Map the failure of a worker call for the pipeline's caller.
 *
 * UNAUTHENTICATED, PERMISSION_DENIED and CANCELLED become INTERNAL, with the code as the cause for the log. Other errors are forwarded, with
 * long messages truncated.
 *
 * @param signal of the pipeline's call. If it is aborted, the error is returned unchanged.
 */
export function workerFailure(error: unknown, signal: AbortSignal): unknown {
  if (!(error instanceof ConnectError) || signal.aborted) {
    return error;
  }
  if (internalCodes.has(error.code)) {
    return internal("the worker rejected the pipeline's call", new Error(`the worker returned ${Code[error.code]}`));
  }
  if (error.rawMessage.length > maxMessageLength) {
    const text = [...error.rawMessage.slice(0, 2 * maxMessageLength)].slice(0, maxMessageLength).join("");
    const cut = new ConnectError(text, error.code, error.metadata, undefined, error.cause);
    cut.details = error.details;
    return cut;
  }
  return error;
}
