import { isMessage, type Message } from "@bufbuild/protobuf";
import { type InferResponse, InferResponseSchema, InferStreamResponseSchema } from "../gen/throughline/v1/worker_pb.js";
import { isServiceMs, type LoadReport } from "../mesh/balance/replica-load.js";

/** What an answer of a worker tells of its queue and its speed. */
export function loadOfWorker(message: Message): LoadReport | undefined {
  if (isMessage(message, InferResponseSchema)) {
    return loadOfResult(message);
  }
  if (!isMessage(message, InferStreamResponseSchema)) {
    return undefined;
  }
  switch (message.event.case) {
    case "queued":
      // The position counts those that wait; the one that is painted is before them.
      return { ahead: message.event.value.position + 1 };
    case "result":
      return loadOfResult(message.event.value);
    default:
      return undefined;
  }
}

function loadOfResult({ timings }: InferResponse): LoadReport | undefined {
  const serviceMs = timings && timings.totalMs - timings.queueMs;
  // What a worker says is checked here, so that one which cannot count tells nothing of its speed.
  return serviceMs !== undefined && isServiceMs(serviceMs) ? { serviceMs } : undefined;
}
