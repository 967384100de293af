import { type ConnectError, createContextKey, type Interceptor } from "@connectrpc/connect";

/**
 * Context key of a request that could not be read (broken JSON, wrong types, too large, …): the error to answer with. Such a request
 * still passes through the interceptors, with an empty message, so that the refusal is traced like any other. An interceptor that looks
 * into messages must let it pass.
 */
export const refusal = createContextKey<ConnectError | undefined>(undefined, { description: "refusal" });

/** The innermost interceptor: ends a refused request before its empty message reaches a handler. */
export const refusalInterceptor: Interceptor = (next) => (request) => {
  const error = request.contextValues.get(refusal);
  return error === undefined ? next(request) : Promise.reject(error);
};
