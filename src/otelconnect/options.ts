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

/** Result of a call. */
export interface RpcOutcome {
  /** Undefined for a successful call. */
  readonly code: Code | undefined;
  /** Whether the span's status is ERROR. False if the client itself cancelled the call. */
  readonly isError: boolean;
}

/** Options of both interceptors. */
export interface OtelConnectOptions {
  /**
   * Creates spans. If false, calls are only measured: the active context does not change, and no trace headers are read or written.
   * @default true
   */
  readonly spans?: boolean | undefined;
  /**
   * Adds the attributes of the semantic conventions for RPC to spans. If false, spans have only those of `attributes` and `beforeEnd`.
   * Does not affect metrics. @default true
   */
  readonly spanAttributes?: boolean | undefined;
  /** Creates the spans. Takes precedence over `tracerProvider`. */
  readonly tracer?: Tracer | undefined;
  /** Provides the tracer. @default the global tracer provider */
  readonly tracerProvider?: TracerProvider | undefined;
  /** Creates the duration metric. Takes precedence over `meterProvider`. Pass the API's `createNoopMeter()` to disable metrics. */
  readonly meter?: Meter | undefined;
  /** Provides the meter. @default the global meter provider */
  readonly meterProvider?: MeterProvider | undefined;
  /** Reads and writes trace headers. @default the global propagator */
  readonly propagator?: TextMapPropagator | undefined;
  /**
   * Value of `rpc.system.name`, which also selects the names of codes. Set it for uniform telemetry across protocols.
   * @default derived from the call's content type
   */
  readonly system?: RpcSystem | undefined;
  /** Name of the span, of low cardinality. @default `package.Service/Method` */
  readonly spanName?: ((request: RpcRequest) => string) | undefined;
  /** Selects the observed calls. Other calls have no span, no metric and no trace headers. @default all */
  readonly filter?: ((request: RpcRequest) => boolean) | undefined;
  /** Additional start attributes of the span. @default none */
  readonly attributes?: ((request: RpcRequest) => Attributes) | undefined;
  /** Additional attributes of the metric. Each combination of values is a separate series: keep the cardinality low. @default none */
  readonly metricAttributes?: ((request: RpcRequest) => Attributes) | undefined;
  /** Selects the semantic-convention attributes of spans and metrics. @default all */
  readonly attributeFilter?: AttributeFilter | undefined;
  /** Request headers to record on the span, as `rpc.request.header.<name>`. @default none */
  readonly requestHeaders?: readonly string[] | undefined;
  /** Response headers to record on the span, as `rpc.response.header.<name>`. @default none */
  readonly responseHeaders?: readonly string[] | undefined;
  /** Response trailers to record on the span, as `rpc.response.trailer.<name>`. @default none */
  readonly responseTrailers?: readonly string[] | undefined;
  /** Adds an `rpc.message` event with the size of each message. @default false */
  readonly messageEvents?: boolean | undefined;
  /** Called before a recording span ends, to add attributes or change the status. */
  readonly beforeEnd?: ((span: Span, outcome: RpcOutcome) => void) | undefined;
}

export interface ServerInterceptorOptions extends OtelConnectOptions {
  /** Returns the span's parent from another source, such as the message. Takes precedence over headers unless it returns undefined. */
  readonly origin?: ((request: RpcRequest) => SpanOrigin | undefined) | undefined;
  /** Use of a caller's trace headers. @default "link" */
  readonly remoteParent?: RemoteParent | undefined;
  /**
   * Uses the active span, such as an HTTP instrumentation's, as the parent and ignores the headers. Set it to false for servers that are
   * called in memory, where the active span is the caller's. @default true
   */
  readonly nestInActiveSpan?: boolean | undefined;
}

/** Options of the client interceptor. The span's parent is the call's {@link otelContext}, or the active span. */
export type ClientInterceptorOptions = OtelConnectOptions;
