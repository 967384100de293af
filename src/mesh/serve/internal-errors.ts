import { ConnectError, type ContextValues, type Interceptor } from "@connectrpc/connect";
import { toClientError } from "../errors/errors.js";

/** Which call an internal error happened in. */
export interface InternalErrorContext {
  /** `package.Service/Method`. */
  readonly method: string;
  /** The call's context values; absent where there was no call yet. */
  readonly values?: ContextValues;
}

/** Gets the errors that clients only see as INTERNAL "internal error". */
export type InternalErrorHandler = (error: unknown, context: InternalErrorContext) => void;

/**
 * Interceptor that turns what is thrown further in into the error for the client, and gives what the client does not see to a handler
 * for the log. A ConnectError passes unchanged.
 */
export function createInternalErrorInterceptor(onInternalError: InternalErrorHandler): Interceptor {
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const convert = (error: unknown): ConnectError => {
      const converted = toClientError(error, request.signal);
      if (!(error instanceof ConnectError) && converted.cause === error) {
        onInternalError(error, { method, values: request.contextValues });
      }
      return converted;
    };
    try {
      const response = await next(request);
      return response.stream ? { ...response, message: converted(response.message, convert) } : response;
    } catch (error) {
      throw convert(error);
    }
  };
}

async function* converted<T>(messages: AsyncIterable<T>, convert: (error: unknown) => ConnectError): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (error) {
    throw convert(error);
  }
}
