import type { Interceptor } from "@connectrpc/connect";
import {
  type Context,
  context,
  INVALID_SPAN_CONTEXT,
  isSpanContextValid,
  type Span,
  SpanKind,
  trace,
} from "@opentelemetry/api";
import { createCallDuration } from "./call-duration.js";
import { createCallRecord, type RpcResponse } from "./call-record.js";
import type { OtelConnectOptions } from "./options.js";
import type { SpanOrigin } from "./remote-parent.js";
import {
  callAttributes,
  filterAttributes,
  headerAttributes,
  methodName,
  peerAttributes,
  type RpcRequest,
  rpcSystemOf,
  serverAttributes,
} from "./rpc-attributes.js";
import { runCall } from "./run-call.js";
import type { RpcSide, RpcSystem } from "./status-codes.js";

/** A call with its span begun. */
export interface ObservedCall {
  /** Context whose span is the call's; what was active, for a call without one. */
  readonly scope: Context;
  /** Goes on with the call, to where the span ends. */
  run(next: ReturnType<Interceptor>): Promise<RpcResponse>;
}

/**
 * Watches the calls of one side.
 *
 * @returns undefined for a call that may pass untouched: it is filtered out, is watched already, or nobody wants spans or metrics.
 */
export type CallObserver = (request: RpcRequest, originOf: () => SpanOrigin) => ObservedCall | undefined;

/** Name of the instrumentation scope. */
const scopeName = "throughline/otelconnect";

/** Makes what watches the calls of one side. It watches no call twice, however often it stands in a chain of interceptors. */
export function createCallObserver(side: RpcSide, options: OtelConnectOptions): CallObserver {
  const tracer = options.tracer ?? (options.tracerProvider ?? trace).getTracer(scopeName);
  const duration = createCallDuration(side, scopeName, options);
  const { attributeFilter, requestHeaders = [] } = options;
  const kind = side === "server" ? SpanKind.SERVER : SpanKind.CLIENT;
  /** Calls on their way down the chain, by their signals: the one object that all interceptors of one call see. */
  const underWay = new WeakSet<AbortSignal>();

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
    if (underWay.has(request.signal) || options.filter?.(request) === false) {
      return undefined;
    }
    const startedAtMs = performance.now();
    const system = options.system ?? rpcSystemOf(request.header);
    const observe = (span: Span, scope: Context): ObservedCall => {
      const call = { side, system, options, request, span, scope, startedAtMs, duration };
      return {
        scope,
        async run(next) {
          underWay.add(request.signal);
          try {
            return await runCall(next, call, createCallRecord(call));
          } finally {
            underWay.delete(request.signal);
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
