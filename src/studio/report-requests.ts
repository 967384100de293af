import { isMessage } from "@bufbuild/protobuf";
import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import { context } from "@opentelemetry/api";
import { GenerateStreamResponseSchema, ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import { bindIterable } from "../otelconnect/bind-iterable.js";
import { grpcStatusName, leftCodeOf, serverCodeOf } from "../otelconnect/errors.js";
import { serverScope } from "../trace/server-span-interceptor.js";
import { traceIdOf } from "../trace/trace-fields.js";
import type { RunningRequest, RunningRequests } from "./running-requests.js";

/**
 * Reports a pipeline's calls to a register: that they began, how far they are, and the code that they ended with. Of previews and results it
 * reports nothing. It has to run inside the span's interceptor, for the trace id.
 */
export function createRequestReporter(requests: RunningRequests): Interceptor {
  return (next) => async (call) => {
    if (call.service.typeName !== ImagePipelineService.typeName) {
      return next(call);
    }
    const { method, signal, contextValues } = call;
    const request = requests.begin({ method: method.name, traceId: traceIdOf(contextValues.get(serverScope)) });
    const fail = (error: unknown) => request.end(grpcStatusName(serverCodeOf(error, signal)));
    try {
      const response = await next(call);
      if (response.stream) {
        const left = () => request.end(grpcStatusName(leftCodeOf(signal)));
        return { ...response, message: reported(response, request, { failed: fail, left }) };
      }
      request.end("OK");
      return response;
    } catch (error) {
      fail(error);
      throw error;
    }
  };
}

function reported(
  { message: messages }: StreamResponse,
  request: RunningRequest,
  endings: { readonly failed: (error: unknown) => void; readonly left: () => void },
): StreamResponse["message"] {
  return bindIterable(context.active(), () => messages, {
    ...endings,
    message(message) {
      if (!isMessage(message, GenerateStreamResponseSchema)) {
        return;
      }
      const { event } = message;
      if (event.case === "queued") {
        request.tell(event);
      } else if (event.case === "progress") {
        const { stage, step, totalSteps } = event.value;
        request.tell({ case: "progress", value: { stage, step, totalSteps } });
      }
    },
    done: () => request.end("OK"),
  });
}
