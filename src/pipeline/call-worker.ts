import type { CallOptions, Client } from "@connectrpc/connect";
import type { Progress, Queued } from "../gen/throughline/v1/image_pb.js";
import type { InferRequest, InferResponse, TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";

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
