import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ProgressSchema } from "../gen/throughline/v1/image_pb.js";
import type { GenerateStreamResponseSchema } from "../gen/throughline/v1/pipeline_pb.js";
import { leftCodeOf, serverCodeOf } from "../otelconnect/error-code.js";
import { grpcStatusName } from "../otelconnect/status-codes.js";
import type { RequestBegin, RunningRequests } from "./running-requests.js";

type GenerateEvent = NonNullable<MessageInitShape<typeof GenerateStreamResponseSchema>["event"]>;

/** Which request is followed, and where. */
export interface FollowOptions extends RequestBegin {
  /** Undefined: nobody wants to know. */
  readonly requests: RunningRequests | undefined;
  /** The call's. */
  readonly signal: AbortSignal;
}

/** Passes the events of a request on, and tells the register of it: no preview, nothing of the result, and how it ended. */
export async function* followRequest<Event extends GenerateEvent>(
  events: AsyncIterable<Event>,
  { requests, signal, method, traceId }: FollowOptions,
): AsyncGenerator<Event> {
  const request = requests?.begin({ method, traceId });
  let statusCode: string | undefined;
  try {
    for await (const event of events) {
      if (event.case === "queued") {
        request?.tell({ case: "queued", value: event.value });
      } else if (event.case === "progress") {
        const { stage, step, totalSteps } = create(ProgressSchema, event.value);
        request?.tell({ case: "progress", value: { stage, step, totalSteps } });
      }
      yield event;
    }
    statusCode = "OK";
  } catch (error) {
    statusCode = grpcStatusName(serverCodeOf(error, signal));
    throw error;
  } finally {
    request?.end(statusCode ?? grpcStatusName(leftCodeOf(signal)));
  }
}
