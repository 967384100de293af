import type { Code } from "@connectrpc/connect";
import type {
  Attributes,
  Meter,
  MeterProvider,
  Span,
  TextMapPropagator,
  Tracer,
  TracerProvider,
} from "@opentelemetry/api";
import type { RpcSystem } from "./errors.js";
import type { RemoteParent, SpanOrigin } from "./otel-context.js";
import type { AttributeFilter, RpcRequest } from "./rpc-attributes.js";

/** How a call ended. */
export interface RpcOutcome {
  /** Undefined for a call that went well. */
  readonly code: Code | undefined;
  /** Whether the span is an ERROR. False for a client's call that its own caller cancelled. */
  readonly isError: boolean;
}

/** What both interceptors can be told. */
export interface OtelConnectOptions {
  /**
   * Whether calls have spans. Without them they are only measured: the context that is active stays so, and no trace headers are read or
   * written. @default true
   */
  readonly spans?: boolean | undefined;
  /**
   * Whether spans have the attributes of the conventions for RPC. Without them a span has those of `attributes` and `beforeEnd` only; the
   * metric keeps its own. @default true
   */
  readonly spanAttributes?: boolean | undefined;
  /** Makes the spans. */
  readonly tracer?: Tracer | undefined;
  /** Gives the tracer, where `tracer` does not. @default the global one */
  readonly tracerProvider?: TracerProvider | undefined;
  /** Makes the duration metric. For calls without metrics, bring the API's `createNoopMeter()`. */
  readonly meter?: Meter | undefined;
  /** Gives the meter, where `meter` does not. @default the global one */
  readonly meterProvider?: MeterProvider | undefined;
  /** Reads and writes trace headers. @default the global one */
  readonly propagator?: TextMapPropagator | undefined;
  /**
   * `rpc.system.name`, and the spelling of codes that goes with it. Say it for uniform telemetry of services that are called by
   * several protocols. @default what the call's content type says
   */
  readonly system?: RpcSystem | undefined;
  /** Name of the span; of few different values. @default `package.Service/Method` */
  readonly spanName?: ((request: RpcRequest) => string) | undefined;
  /** Says which calls are seen at all. What it rejects passes untouched: no span, no metric, no headers. @default all */
  readonly filter?: ((request: RpcRequest) => boolean) | undefined;
  /** Attributes of your own, which the span begins with. @default none */
  readonly attributes?: ((request: RpcRequest) => Attributes) | undefined;
  /** Attributes of your own on the metric; each combination of values is a series of its own, so let there be few. @default none */
  readonly metricAttributes?: ((request: RpcRequest) => Attributes) | undefined;
  /** Says which of the conventions' attributes spans and metrics keep. @default all */
  readonly attributeFilter?: AttributeFilter | undefined;
  /** Names of request headers that stand on the span, as `rpc.request.header.<name>`. @default none */
  readonly requestHeaders?: readonly string[] | undefined;
  /** Names of response headers that stand on the span, as `rpc.response.header.<name>`. @default none */
  readonly responseHeaders?: readonly string[] | undefined;
  /** Names of response trailers that stand on the span, as `rpc.response.trailer.<name>`. @default none */
  readonly responseTrailers?: readonly string[] | undefined;
  /** Whether each message makes an `rpc.message` event with its size. @default false */
  readonly messageEvents?: boolean | undefined;
  /** The last word on a span that is recorded, before it ends: attributes of your own, another status. */
  readonly beforeEnd?: ((span: Span, outcome: RpcOutcome) => void) | undefined;
}

export interface ServerInterceptorOptions extends OtelConnectOptions {
  /** Says where the span of a call begins, before all else: a parent that travels in a message. Undefined leaves it to the rest. */
  readonly origin?: ((request: RpcRequest) => SpanOrigin | undefined) | undefined;
  /** What a caller's trace headers mean. @default "link" */
  readonly remoteParent?: RemoteParent | undefined;
  /**
   * Whether a span that is active when a call comes in, such as an HTTP instrumentation's, becomes the parent; headers are not read then.
   * Switch it off where servers are called in memory, by callers with spans of their own. @default true
   */
  readonly nestInActiveSpan?: boolean | undefined;
}

/** The client's parent is always the active span, or what {@link otelContext} says for the call. */
export type ClientInterceptorOptions = OtelConnectOptions;
