import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { ConnectError, type ContextKey, type Interceptor } from "@connectrpc/connect";
import {
  type Context,
  createNoopMeter,
  isSpanContextValid,
  type Meter,
  SpanKind,
  type TextMapPropagator,
  type Tracer,
  trace,
} from "@opentelemetry/api";
import { createServerInterceptor } from "../otelconnect/interceptors.js";
import { otelContext, type RemoteParent } from "../otelconnect/otel-context.js";
import { bodyCarrier, extractCarrier, withBodyCarrier } from "./carrier.js";
import { settle } from "./span-scope.js";

export interface ServerSpanInterceptorOptions {
  readonly tracer: Tracer;
  /** Records call durations, by the semantic conventions for RPC. @default a no-op meter */
  readonly meter?: Meter | undefined;
  /** Reads the caller's headers. */
  readonly propagator: TextMapPropagator;
  /** Name of the span of every rpc: the app's name, such as `image-pipeline`. */
  readonly name: string;
  /** Services whose calls get a span. Leave out health checks and reflection, which would outnumber the others. */
  readonly services: readonly DescService[];
  /** Methods of the services whose calls get no span, such as those that clients poll. @default none */
  readonly untraced?: readonly DescMethod[] | undefined;
  /** Use of the `traceparent` header if the request's own carrier names no parent. @default "link" */
  readonly parent?: RemoteParent;
}

/**
 * Context key of the server's span: `handlerContext.values.get(serverScope)`.
 *
 * The same context is active while the handler runs. Use the key to pass a parent explicitly. Without a span, it is the root context.
 */
export const serverScope: ContextKey<Context> = otelContext;

/**
 * Creates one SERVER span per call, and measures the call. Put it first, so that rejected requests have a span too.
 *
 * - Parent: the first valid one of `trace_context` in the request's body, the headers according to `parent`, and none.
 * - Attributes: set by the handler on the active span; `rpc.response.status_code` only if the call failed. See `settleFailure` for status
 *   and exceptions.
 * - End: for a unary call, when the handler returns; for a stream, after its last message or when the client disconnected.
 */
export function createServerSpanInterceptor(options: ServerSpanInterceptorOptions): Interceptor {
  const { tracer, meter = createNoopMeter(), propagator, name, untraced = [], parent = "link" } = options;
  const spans = createServerInterceptor({
    tracer,
    meter,
    propagator,
    spanName: () => name,
    spanAttributes: false,
    filter: ({ method }) => !untraced.includes(method),
    origin({ contextValues }) {
      const parent = extractCarrier(propagator, contextValues.get(bodyCarrier));
      return trace.getSpanContext(parent) && { parent, links: [] };
    },
    remoteParent: parent,
    // With two services in one process, the active span is another service's.
    nestInActiveSpan: false,
    beforeEnd: (span, { code }) => code !== undefined && settle(span, SpanKind.SERVER, code),
  });
  return withBodyCarrier(spans, options.services);
}

/** Response header with the trace of a call, sent while the call still runs. */
const traceResponseHeader = "traceresponse";

/**
 * Sends the SERVER span's ids as `traceresponse: 00-<trace id>-<span id>-<flags>`.
 *
 * The header is on each response and on the error of a rejected call. Put this interceptor after the one that creates the span. Sends
 * nothing if tracing is off.
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
      // The reason of an aborted signal can be shared with other calls: do not modify it.
      if (error instanceof ConnectError && error !== request.signal.reason) {
        error.metadata.set(traceResponseHeader, value);
      }
      throw error;
    }
  };
}
