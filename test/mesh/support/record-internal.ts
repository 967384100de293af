import { Code, type Interceptor } from "@connectrpc/connect";
import { hiddenCauseOf } from "../../../src/mesh/errors/errors.js";
import { serverCodeOf } from "../../../src/otelconnect/errors.js";
import { watchStream } from "../../../src/otelconnect/watched-stream.js";

/** A call that ended with INTERNAL, and its masked cause. */
export interface InternalFailure {
  readonly method: string;
  readonly hidden: unknown;
}

/** An interceptor that records calls that end with INTERNAL and a masked cause. Put it first. */
export function recordInternal(failures: unknown[]): Interceptor {
  return (next) => async (request) => {
    const failed = (error: unknown) => {
      const hidden = hiddenCauseOf(error);
      if (hidden !== undefined && serverCodeOf(error, request.signal) === Code.Internal) {
        failures.push({ method: request.method.name, hidden } satisfies InternalFailure);
      }
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: watchStream(response.message, { failed }) } : response;
    } catch (error) {
      failed(error);
      throw error;
    }
  };
}
