import type { Interceptor } from "@connectrpc/connect";
import { context, propagation, ROOT_CONTEXT, type TextMapSetter, trace } from "@opentelemetry/api";
import { createCallObserver } from "./observed-call.js";
import type { ClientInterceptorOptions, ServerInterceptorOptions } from "./options.js";
import { otelContext, readRemoteParent, type SpanOrigin } from "./otel-context.js";
import type { RpcRequest } from "./rpc-attributes.js";

/**
 * Creates a CLIENT span for each call, measures the call, and writes the trace headers.
 *
 * Put a retry interceptor before it for one span per attempt, or after it for one span per call.
 *
 * @example
 * createGrpcTransport({ baseUrl, interceptors: [createClientInterceptor()] })
 */
export function createClientInterceptor(options: ClientInterceptorOptions = {}): Interceptor {
  const observe = createCallObserver("client", options);
  const { propagator = propagation } = options;

  return (next) => async (request) => {
    const call = observe(request, () => {
      const parent = request.contextValues.get(otelContext);
      return { parent: parent === ROOT_CONTEXT ? context.active() : parent, links: [] };
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

/**
 * Creates a SERVER span for each call of a router, and measures the call.
 *
 * Put it first, so that it also sees calls rejected by later interceptors. The span is active while the handler runs, its generator
 * included. The parent is the first of: the result of `origin`; the {@link otelContext} set by an earlier interceptor; the active span;
 * the headers.
 *
 * @example
 * connectNodeAdapter({ routes, interceptors: [createServerInterceptor({ remoteParent: "trust" })] })
 */
export function createServerInterceptor(options: ServerInterceptorOptions = {}): Interceptor {
  const observe = createCallObserver("server", options);
  const { propagator = propagation, remoteParent = "link", nestInActiveSpan = true } = options;

  const originOf = (request: RpcRequest): SpanOrigin => {
    const origin = options.origin?.(request);
    if (origin !== undefined) {
      return origin;
    }
    const outer = request.contextValues.get(otelContext);
    if (outer !== ROOT_CONTEXT) {
      return { parent: outer, links: [] };
    }
    const active = context.active();
    if (nestInActiveSpan && trace.getSpanContext(active) !== undefined) {
      return { parent: active, links: [] };
    }
    return readRemoteParent(propagator, request.header, remoteParent);
  };

  return (next) => async (request) => {
    const call = observe(request, () => originOf(request));
    if (call === undefined) {
      return next(request);
    }
    if (options.spans !== false) {
      request.contextValues.set(otelContext, call.scope);
    }
    return call.run(next);
  };
}
