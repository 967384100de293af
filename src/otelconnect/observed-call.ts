import type { Interceptor, StreamResponse } from "@connectrpc/connect";
import {
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Span,
  SpanKind,
  trace,
} from "@opentelemetry/api";
import {
  type BegunCall,
  type CallRecord,
  createCallDuration,
  createCallRecord,
  type RpcResponse,
} from "./call-record.js";
import { abortCodeOf, clientCodeOf, leftCodeOf, type RpcSide, type RpcSystem, serverCodeOf } from "./errors.js";
import type { OtelConnectOptions } from "./options.js";
import type { SpanOrigin } from "./otel-context.js";
import {
  callAttributes,
  createMessageRecorder,
  filterAttributes,
  headerAttributes,
  type MessageRecorder,
  methodName,
  peerAttributes,
  type RpcRequest,
  rpcSystemOf,
  serverAttributes,
} from "./rpc-attributes.js";
import { watchStream, whenCollected } from "./watched-stream.js";

/** Call with a started span. */
export interface ObservedCall {
  /** Context whose span is the call's; what was active, for a call without one. */
  readonly scope: Context;
  /** Runs the call until the span ends. */
  run(next: ReturnType<Interceptor>): Promise<RpcResponse>;
}

/**
 * Observe the calls of one side.
 *
 * @returns undefined for a call that is filtered out, observed already, or has neither span nor metric.
 */
export type CallObserver = (request: RpcRequest, originOf: () => SpanOrigin) => ObservedCall | undefined;

/** Name of the instrumentation scope. */
const scopeName = "throughline/otelconnect";

/** Create the observer of one side. A call is observed once, also with several interceptors in the chain. */
export function createCallObserver(side: RpcSide, options: OtelConnectOptions): CallObserver {
  const tracer = options.tracer ?? (options.tracerProvider ?? trace).getTracer(scopeName);
  const duration = createCallDuration(side, scopeName, options);
  const { attributeFilter, requestHeaders = [] } = options;
  const kind = side === "server" ? SpanKind.SERVER : SpanKind.CLIENT;
  /** Signals of running calls. The signal is the one object that all interceptors of a call share. */
  const observed = new WeakSet<AbortSignal>();

  const conventionAttributes = (request: RpcRequest, system: RpcSystem) => {
    if (options.spanAttributes === false) {
      return undefined;
    }
    const attributes = {
      ...callAttributes(system, request),
      ...serverAttributes(request.url),
      ...peerAttributes(request),
      ...headerAttributes("rpc.request.header", request.header, requestHeaders),
    };
    return filterAttributes(attributes, attributeFilter, request);
  };

  return (request, originOf) => {
    if (observed.has(request.signal) || options.filter?.(request) === false) {
      return undefined;
    }
    const startedAtMs = performance.now();
    const system = options.system ?? rpcSystemOf(request.header);
    const observe = (span: Span, scope: Context): ObservedCall => {
      const call = { side, system, options, request, span, scope, startedAtMs, duration };
      return {
        scope,
        async run(next) {
          observed.add(request.signal);
          try {
            return await runCall(next, call, createCallRecord(call));
          } finally {
            observed.delete(request.signal);
          }
        },
      };
    };
    if (options.spans === false) {
      return duration.enabled() ? observe(noSpan, context.active()) : undefined;
    }
    const { parent, links } = originOf();
    const span = tracer.startSpan(
      options.spanName?.(request) ?? methodName(request.method),
      {
        kind,
        links: [...links],
        attributes: { ...conventionAttributes(request, system), ...options.attributes?.(request) },
      },
      parent,
    );
    if (!isSpanContextValid(span.spanContext()) && !duration.enabled()) {
      return undefined;
    }
    return observe(span, trace.setSpan(parent, span));
  };
}

const noSpan = trace.wrapSpanContext(INVALID_SPAN_CONTEXT);

/**
 * Runs a call and ends its record.
 *
 * - Unary call: the record ends with the response or the error.
 * - Stream: the record ends after the last message, on an error, when the reader stops, or, on the client, when the stream is
 *   garbage-collected.
 *
 * Streams are bound to the call's context: it is active in a handler's generator and in a client's request generator.
 */
export async function runCall(
  next: ReturnType<Interceptor>,
  call: BegunCall,
  record: CallRecord,
): Promise<RpcResponse> {
  const messages = messageRecorders(call);
  let response: RpcResponse;
  try {
    response = await context.with(call.scope, () => next(bindRequest(call, messages?.request)));
  } catch (error) {
    record.end({ code: codeOf(call, error), error });
    throw error;
  }
  record.answered(response);
  if (response.stream) {
    return bindResponse(call, response, record, messages?.response);
  }
  messages?.response(response.message);
  record.end({ code: undefined });
  return response;
}

function codeOf({ side, request }: BegunCall, error: unknown) {
  return side === "server" ? serverCodeOf(error, request.signal) : clientCodeOf(error, request.signal);
}

function bindRequest({ side, request, scope }: BegunCall, message: MessageRecorder | undefined): RpcRequest {
  if (!request.stream) {
    message?.(request.message);
    return request;
  }
  // A server's requests come from the transport, which needs no context.
  if (side === "server" && message === undefined) {
    return request;
  }
  return { ...request, message: watchStream(request.message, { scope, ...(message && { message }) }) };
}

function bindResponse(
  call: BegunCall,
  response: StreamResponse,
  record: CallRecord,
  message: MessageRecorder | undefined,
): StreamResponse {
  const { signal } = call.request;
  const left = () => record.end({ code: leftCodeOf(signal), isReaderGone: true });
  const bound = watchStream(response.message, {
    scope: call.scope,
    ...(message && { message }),
    done: () => record.end({ code: undefined }),
    failed: (error) => record.end({ code: codeOf(call, error), error }),
    left,
  });
  // Servers end a handler's stream in every case. Connect's clients do not forward a reader's `break`: such a call ends only when its
  // signal is aborted or the stream is garbage-collected.
  if (call.side === "client") {
    endOnAbort(signal, record);
    record.onEnd(whenCollected(bound, left));
  }
  return { ...response, message: bound };
}

function endOnAbort(signal: AbortSignal, record: CallRecord): void {
  const aborted = () => record.end({ code: abortCodeOf(signal), error: signal.reason });
  if (signal.aborted) {
    aborted();
    return;
  }
  signal.addEventListener("abort", aborted, { once: true });
  record.onEnd(() => signal.removeEventListener("abort", aborted));
}

function messageRecorders({ side, span, options, request }: BegunCall) {
  if (options.messageEvents !== true || !span.isRecording()) {
    return undefined;
  }
  const isClient = side === "client";
  return {
    request: createMessageRecorder(span, isClient ? "SENT" : "RECEIVED", request.method.input),
    response: createMessageRecorder(span, isClient ? "RECEIVED" : "SENT", request.method.output),
  };
}
