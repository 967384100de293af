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

/** What a client or an outer interceptor gets. */
export type RpcResponse = UnaryResponse | StreamResponse;

/** A call that has begun. */
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

/** How a call can end. */
export interface CallEnd {
  /** Undefined for a successful call. */
  readonly code: Code | undefined;
  readonly error?: unknown;
  /** Whether the reader of the response stopped before its end. */
  readonly isReaderGone?: boolean;
}

/** Writes down the end of a call. */
export interface CallRecord {
  /** Remembers the answer, whose headers and trailers stand on the span. */
  answered(response: RpcResponse): void;
  /** Whatever has to be tidied up with the call. */
  onEnd(tidyUp: () => void): void;
  /** Ends the span and measures the call. Only the first end counts. */
  end(end: CallEnd): void;
}

/** Makes the record of a call; see the documentation's tables for what it writes. */
export function createCallRecord(call: BegunCall): CallRecord {
  const { side, system, options, request, span } = call;
  let response: RpcResponse | undefined;
  let ended = false;
  const tidyUps: (() => void)[] = [];

  const settleSpan = (code: Code | undefined, isError: boolean, outcome: Attributes, error: unknown) => {
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
    onEnd(tidyUp) {
      tidyUps.push(tidyUp);
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
        settleSpan(code, isError, outcome, error);
      }
      span.end();
      if (call.duration.enabled()) {
        const attributes = {
          ...callAttributes(system, request),
          // The address that a server was called by is the caller's choice, and could be a new one each time.
          ...(side === "client" && serverAttributes(request.url)),
          ...outcome,
        };
        const kept = filterAttributes(attributes, options.attributeFilter, request);
        call.duration.record(seconds, { ...kept, ...options.metricAttributes?.(request) }, call.scope);
      }
      for (const tidyUp of tidyUps) {
        tidyUp();
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

/** Headers and trailers of an answer. A ConnectError holds both in its metadata, without saying which is which. */
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

/** Records how long calls take: `rpc.server.call.duration` or `rpc.client.call.duration`, in seconds. */
export interface CallDuration {
  /** Whether anybody wants to know. */
  enabled(): boolean;
  record(seconds: number, attributes: Attributes, scope: Context): void;
}

/** What the conventions advise, in seconds. */
const bucketBoundaries = [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];

const descriptions = {
  server: "Measures the duration of an incoming Remote Procedure Call (RPC).",
  client: "Measures the duration of an outgoing Remote Procedure Call (RPC).",
} as const satisfies Record<RpcSide, string>;

/** The API has one of it. */
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
