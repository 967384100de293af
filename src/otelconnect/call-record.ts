import { Code, ConnectError, type StreamResponse, type UnaryResponse } from "@connectrpc/connect";
import { type Attributes, type Context, type Span, SpanStatusCode } from "@opentelemetry/api";
import type { CallDuration } from "./call-duration.js";
import type { OtelConnectOptions } from "./options.js";
import { messageForCallers, recordException } from "./record-exception.js";
import {
  callAttributes,
  filterAttributes,
  headerAttributes,
  type RpcRequest,
  serverAttributes,
} from "./rpc-attributes.js";
import { isErrorCode, type RpcSide, type RpcSystem, statusCodeOf } from "./status-codes.js";

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
  /** Undefined for a call that went well. */
  readonly code: Code | undefined;
  readonly error?: unknown;
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
    end({ code, error }) {
      if (ended) {
        return;
      }
      ended = true;
      const seconds = (performance.now() - call.startedAtMs) / 1000;
      const isError = code !== undefined && isErrorCode(side, code);
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
