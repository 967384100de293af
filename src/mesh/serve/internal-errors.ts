import { Code, ConnectError, type ContextValues, type Interceptor } from "@connectrpc/connect";
import * as grpc from "@grpc/grpc-js";
import { toClientError } from "../errors/errors.js";

/** Which call an internal error happened in. */
export interface InternalErrorContext {
  /** `package.Service/Method`. */
  readonly method: string;
  /** The call's context values; absent where there was no call yet. */
  readonly values?: ContextValues;
}

/** Gets the errors whose cause clients do not see: what was thrown, or the INTERNAL that it was made the cause of. */
export type InternalErrorHandler = (error: unknown, context: InternalErrorContext) => void;

/**
 * Interceptor that turns what is thrown further in into the error for the client, and gives what the client does not see to a handler
 * for the log, once. A ConnectError passes unchanged; an INTERNAL one is told of too where something foreign is its cause.
 */
export function createInternalErrorInterceptor(onInternalError: InternalErrorHandler): Interceptor {
  const told = new WeakSet<ConnectError>();
  return (next) => async (request) => {
    const method = `${request.service.typeName}/${request.method.name}`;
    const convert = (error: unknown): ConnectError => {
      const converted = toClientError(error, request.signal);
      const hidden =
        error instanceof ConnectError
          ? error.code === Code.Internal && isForeign(error.cause)
          : converted.cause === error;
      if (hidden && !told.has(converted)) {
        told.add(converted);
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

/** Whether only this process can tell of a cause. What a server answered was told of there, and its words may hold anything. */
function isForeign(cause: unknown): boolean {
  const answered = cause instanceof Error && "metadata" in cause && cause.metadata instanceof grpc.Metadata;
  return cause !== undefined && !(cause instanceof ConnectError) && !answered;
}
