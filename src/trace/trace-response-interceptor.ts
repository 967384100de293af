import type { DescService } from "@bufbuild/protobuf";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { isSpanContextValid, trace } from "@opentelemetry/api";
import { serverScope } from "./server-span-interceptor.js";

/** Response header that tells a caller the trace of its call while the call still runs. */
const traceResponseHeader = "traceresponse";

/**
 * Sends `traceresponse: 00-<trace id>-<span id>-<flags>` with the headers of each answer of these services, or with what refuses the call:
 * the ids of the SERVER span. Put it after the interceptor that makes the span. Where tracing is off, nothing is sent.
 *
 * @see https://w3c.github.io/trace-context/#traceresponse-header
 */
export function createTraceResponseInterceptor(services: readonly DescService[]): Interceptor {
  const served = new Set(services.map((service) => service.typeName));
  return (next) => async (request) => {
    const span = trace.getSpanContext(request.contextValues.get(serverScope));
    if (!served.has(request.service.typeName) || span === undefined || !isSpanContextValid(span)) {
      return next(request);
    }
    const value = `00-${span.traceId}-${span.spanId}-${span.traceFlags.toString(16).padStart(2, "0")}`;
    try {
      const response = await next(request);
      response.header.set(traceResponseHeader, value);
      return response;
    } catch (error) {
      // What a signal was aborted with may end other calls too.
      if (error instanceof ConnectError && error !== request.signal.reason) {
        error.metadata.set(traceResponseHeader, value);
      }
      throw error;
    }
  };
}
