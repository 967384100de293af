import type { Interceptor } from "@connectrpc/connect";
import { toClientError } from "../errors/errors.js";

/** Interceptor that turns what is thrown further in into the error for the client; a ConnectError passes unchanged. */
export const internalErrorInterceptor: Interceptor = (next) => async (request) => {
  try {
    const response = await next(request);
    return response.stream ? { ...response, message: converted(response.message, request.signal) } : response;
  } catch (error) {
    throw toClientError(error, request.signal);
  }
};

async function* converted<T>(messages: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw toClientError(error, signal);
  }
}
