import type { DescService } from "@bufbuild/protobuf";
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
  /** Measures how long calls take, by the conventions for RPC. @default nothing is measured */
  readonly meter?: Meter | undefined;
  /** Reads the caller's headers. */
  readonly propagator: TextMapPropagator;
  /** Name of the span, the same for all rpcs: the app's name, such as `image-pipeline`. */
  readonly name: string;
  /** Only calls of these services get a span. Health checks and reflection on the same server would drown the rest. */
  readonly services: readonly DescService[];
  /** What a caller's `traceparent` header means where the request's own carrier names no parent. Default `link`. */
  readonly parent?: RemoteParent;
}

/**
 * Key under which a handler finds the context with the server's span: `handlerContext.values.get(serverScope)`. The same context is
 * active while the handler runs; the key is for code that says its parents. Without a span it is the root context.
 */
export const serverScope: ContextKey<Context> = otelContext;

/**
 * Makes the one SERVER span of a call, and measures it. Put it first in the list of interceptors, so that the span begins outside validation and a
 * rejected request has one too. Attributes come from the handler, through the active span. Its parent is the first valid one of: the
 * `trace_context` in the request's body, where its contract has such a field; the headers, as `parent` says; none.
 *
 * The span ends with the answer: of a unary call when the handler returns, of a stream when its last message is out or the client
 * left. It carries `rpc.response.status_code` only when the call did not end well; see `settleFailure` for status and exceptions.
 */
export function createServerSpanInterceptor(options: ServerSpanInterceptorOptions): Interceptor {
  const { tracer, meter = createNoopMeter(), propagator, name, parent = "link" } = options;
  const spans = createServerInterceptor({
    tracer,
    meter,
    propagator,
    spanName: () => name,
    spanAttributes: false,
    origin({ contextValues }) {
      const said = extractCarrier(propagator, contextValues.get(bodyCarrier));
      return trace.getSpanContext(said) && { parent: said, links: [] };
    },
    remoteParent: parent,
    // With two services in one process, what is active is another service's span.
    nestInActiveSpan: false,
    beforeEnd: (span, { code }) => code !== undefined && settle(span, SpanKind.SERVER, code),
  });
  return withBodyCarrier(spans, options.services);
}

/** Response header that tells a caller the trace of its call while the call still runs. */
const traceResponseHeader = "traceresponse";

/**
 * Sends `traceresponse: 00-<trace id>-<span id>-<flags>` with the headers of each answer of these services, or with what rejects the call:
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
