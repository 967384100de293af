import type { Interceptor } from "@connectrpc/connect";
import { context, propagation, ROOT_CONTEXT, type TextMapSetter, trace } from "@opentelemetry/api";
import { createCallObserver } from "./observed-call.js";
import type { ClientInterceptorOptions, ServerInterceptorOptions } from "./options.js";
import { otelContext, readRemoteParent, type SpanOrigin } from "./otel-context.js";
import type { RpcRequest } from "./rpc-attributes.js";

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

/**
 * Makes a SERVER span and a measurement of each call that a router answers. Put it first in the list of interceptors, so that it sees
 * the calls that later ones reject. While the handler runs, its generator included, the span is active.
 *
 * The parent is the first of: what `origin` says; what an earlier interceptor put under {@link otelContext}; the active span; what the
 * headers say.
 *
 * @example
 * connectNodeAdapter({ routes, interceptors: [createServerInterceptor({ remoteParent: "trust" })] })
 */
export function createServerInterceptor(options: ServerInterceptorOptions = {}): Interceptor {
  const observe = createCallObserver("server", options);
  const { propagator = propagation, remoteParent = "link", nestInActiveSpan = true } = options;

  const originOf = (request: RpcRequest): SpanOrigin => {
    const said = options.origin?.(request);
    if (said !== undefined) {
      return said;
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
