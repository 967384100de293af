import type { DescService } from "@bufbuild/protobuf";
import type { ContextKey, Interceptor } from "@connectrpc/connect";
import {
  type Context,
  createNoopMeter,
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
 * refused request has one too. Attributes come from the handler, through the active span. Its parent is the first valid one of: the
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
