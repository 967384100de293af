import type { Interceptor } from "@connectrpc/connect";
import { context, propagation, ROOT_CONTEXT, type TextMapSetter } from "@opentelemetry/api";
import { createCallObserver } from "./observed-call.js";
import type { ClientInterceptorOptions } from "./options.js";
import { otelContext } from "./otel-context.js";

/**
 * Makes a CLIENT span and a measurement of each call of a transport, and writes the trace into the call's headers. An interceptor
 * before it that retries makes one span per attempt; behind it, one for all.
 *
 * @example
 * createGrpcTransport({ baseUrl, interceptors: [createClientInterceptor()] })
 */
export function createClientInterceptor(options: ClientInterceptorOptions = {}): Interceptor {
  const observe = createCallObserver("client", options);
  const { propagator = propagation } = options;

  return (next) => async (request) => {
    const call = observe(request, () => {
      const said = request.contextValues.get(otelContext);
      return { parent: said === ROOT_CONTEXT ? context.active() : said, links: [] };
    });
    if (call === undefined) {
      return next(request);
    }
    if (options.spans !== false) {
      propagator.inject(call.scope, request.header, headersSetter);
    }
    return call.run(next);
  };
}

const headersSetter: TextMapSetter<Headers> = { set: (header, key, value) => header.set(key, value) };
