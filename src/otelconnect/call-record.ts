import { Code, ConnectError, type StreamResponse, type UnaryResponse } from "@connectrpc/connect";
import {
  type Attributes,
  type Context,
  createNoopMeter,
  type Histogram,
  metrics,
  type Span,
  SpanStatusCode,
} from "@opentelemetry/api";
import {
  isErrorCode,
  messageForCallers,
  type RpcSide,
  type RpcSystem,
  recordException,
  statusCodeOf,
} from "./errors.js";
import type { OtelConnectOptions } from "./options.js";
import {
  callAttributes,
  filterAttributes,
  headerAttributes,
  type RpcRequest,
  serverAttributes,
} from "./rpc-attributes.js";

/** Response of a call. */
export type RpcResponse = UnaryResponse | StreamResponse;

/** Running call. */
export interface BegunCall {
  readonly side: RpcSide;
  readonly system: RpcSystem;
  readonly options: OtelConnectOptions;
  readonly request: RpcRequest;
  readonly span: Span;
  /** Context whose span is the call's. */
  readonly scope: Context;
  /** By `performance.now()`. */
  readonly startedAtMs: number;
  readonly duration: CallDuration;
}

/** End of a call. */
export interface CallEnd {
  /** Undefined for a successful call. */
  readonly code: Code | undefined;
  readonly error?: unknown;
  /** Whether the reader of the response stopped before its end. */
  readonly isReaderGone?: boolean;
}

/** Recorder of a call's end. */
export interface CallRecord {
  /** Stores the response, whose headers and trailers become span attributes. */
  answered(response: RpcResponse): void;
  /** Registers a cleanup function for the end of the call. */
  onEnd(cleanup: () => void): void;
  /** Ends the span and records the duration. Idempotent. */
  end(end: CallEnd): void;
}

/** Create the recorder of a call; the documentation lists the attributes. */
export function createCallRecord(call: BegunCall): CallRecord {
  const { side, system, options, request, span } = call;
  let response: RpcResponse | undefined;
  let ended = false;
  const cleanups: (() => void)[] = [];

  const completeSpan = (code: Code | undefined, isError: boolean, outcome: Attributes, error: unknown) => {
    if (options.spanAttributes !== false) {
      const attributes = { ...outcome, ...answerAttributes(options, response, error) };
      span.setAttributes(filterAttributes(attributes, options.attributeFilter, request));
    }
    if (isError) {
      const message = messageForCallers(error);
      span.setStatus({ code: SpanStatusCode.ERROR, ...(message !== undefined && { message }) });
    }
    if (error !== undefined && code !== Code.Canceled) {
      recordException(span, error);
    }
    options.beforeEnd?.(span, { code, isError });
  };

  return {
    answered(answer) {
      response = answer;
    },
    onEnd(cleanup) {
      cleanups.push(cleanup);
    },
    end({ code, error, isReaderGone = false }) {
      if (ended) {
        return;
      }
      ended = true;
      const seconds = (performance.now() - call.startedAtMs) / 1000;
      const isCancelledByCaller =
        side === "client" && code === Code.Canceled && (isReaderGone || request.signal.aborted);
      const isError = code !== undefined && isErrorCode(side, code) && !isCancelledByCaller;
      const outcome = outcomeAttributes(system, code, isError);
      if (span.isRecording()) {
        completeSpan(code, isError, outcome, error);
      }
      span.end();
      if (call.duration.enabled()) {
        const attributes = {
          ...callAttributes(system, request),
          // On a server, the address is caller input with unbounded cardinality.
          ...(side === "client" && serverAttributes(request.url)),
          ...outcome,
        };
        const kept = filterAttributes(attributes, options.attributeFilter, request);
        call.duration.record(seconds, { ...kept, ...options.metricAttributes?.(request) }, call.scope);
      }
      for (const cleanup of cleanups) {
        cleanup();
      }
    },
  };
}

function outcomeAttributes(system: RpcSystem, code: Code | undefined, isError: boolean): Attributes {
  const status = statusCodeOf(system, code);
  if (status === undefined) {
    return {};
  }
  return { "rpc.status_code": status, ...(isError && { "error.type": status }) };
}

/** Headers and trailers of a response. A ConnectError's metadata contains both, undistinguished. */
function answerAttributes(options: OtelConnectOptions, response: RpcResponse | undefined, error: unknown): Attributes {
  const { responseHeaders = [], responseTrailers = [] } = options;
  const metadata = error instanceof ConnectError ? error.metadata : undefined;
  const header = response?.header ?? metadata;
  const trailer = metadata ?? response?.trailer;
  return {
    ...(header && headerAttributes("rpc.response.header", header, responseHeaders)),
    ...(trailer && headerAttributes("rpc.response.trailer", trailer, responseTrailers)),
  };
}

/** Duration metric of calls: `rpc.server.call.duration` or `rpc.client.call.duration`, in seconds. */
export interface CallDuration {
  /** Whether the metric is recorded. */
  enabled(): boolean;
  record(seconds: number, attributes: Attributes, scope: Context): void;
}

/** Bucket boundaries of the semantic conventions, in seconds. */
const bucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

const descriptions = {
  server: "Measures the duration of an incoming Remote Procedure Call (RPC).",
  client: "Measures the duration of an outgoing Remote Procedure Call (RPC).",
} as const satisfies Record<RpcSide, string>;

/** The API's shared no-op histogram. */
const noop = createNoopMeter().createHistogram("noop");

/**
 * Makes the one metric that the conventions have left; sizes and counts of messages are deprecated. The global provider is asked
 * again until there is one, because the metrics API, unlike the one for traces, has no stand-in for a provider that comes later.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/rpc-metrics/
 */
export function createCallDuration(side: RpcSide, scopeName: string, options: OtelConnectOptions): CallDuration {
  let histogram: Histogram = noop;
  const current = () => {
    if (histogram === noop) {
      const meter = options.meter ?? (options.meterProvider ?? metrics).getMeter(scopeName);
      histogram = meter.createHistogram(`rpc.${side}.call.duration`, {
        description: descriptions[side],
        unit: "s",
        advice: { explicitBucketBoundaries: bucketBoundaries },
      });
    }
    return histogram;
  };
  return {
    enabled: () => current() !== noop,
    record: (seconds, attributes, scope) => current().record(seconds, attributes, scope),
  };
}
