import type { Interceptor, StreamRequest, UnaryRequest } from "@connectrpc/connect";
import { context, createNoopMeter, SpanKind, type TextMapPropagator, type Tracer } from "@opentelemetry/api";
import { createClientInterceptor } from "../otelconnect/client-interceptor.js";
import { grpcStatusName } from "../otelconnect/status-codes.js";
import { type Carrier, injectCarrier } from "./carrier.js";
import { clientAttributes } from "./client-span.js";
import { requestCarrierOf } from "./request-carrier.js";
import { rpcStatusCode, settle } from "./settle-span.js";

export interface ClientSpanInterceptorOptions {
  readonly tracer: Tracer;
  /** Writes the carrier. */
  readonly propagator: TextMapPropagator;
  /** Name of the span, such as `call-image-pipeline`. */
  readonly name: string;
  /** App id that is called. */
  readonly appId: string;
}

/**
 * Makes the one CLIENT span of a call of another app, a child of the span that is active, with the attributes of `iterateWithClientSpan`, and
 * sends the trace along: in the headers, and in the request's field `trace_context` where its contract has one and the caller left it
 * empty. What travels is the context of the active span, so the other app's span is a sibling of this one, not its child.
 *
 * The span of a stream ends when it is read to its end, or when its signal is aborted: generated clients do not pass `break` on.
 */
export function createClientSpanInterceptor(options: ClientSpanInterceptorOptions): Interceptor {
  const { tracer, propagator, name, appId } = options;
  const spans = createClientInterceptor({
    tracer,
    meter: createNoopMeter(),
    // It would send the span's own context.
    propagator: { inject() {}, extract: (scope) => scope, fields: () => [] },
    spanName: () => name,
    attributes: ({ method }) => clientAttributes(appId, method),
    attributeFilter: () => false,
    beforeEnd(span, { code }) {
      span.setAttribute(rpcStatusCode, code === undefined ? "OK" : grpcStatusName(code));
      if (code !== undefined) {
        settle(span, SpanKind.CLIENT, code);
      }
    },
  });
  return (next) => {
    const inSpan = spans(next);
    return (request) => {
      const carrier = injectCarrier(propagator, context.active());
      for (const [key, value] of Object.entries(carrier)) {
        request.header.set(key, value);
      }
      return inSpan(withCarrier(request, carrier));
    };
  };
}

function withCarrier(request: UnaryRequest | StreamRequest, carrier: Carrier): UnaryRequest | StreamRequest {
  const requestCarrier = requestCarrierOf(request.method);
  if (requestCarrier === undefined || Object.keys(carrier).length === 0) {
    return request;
  }
  if (!request.stream) {
    return { ...request, message: requestCarrier.write(request.message, carrier) };
  }
  const messages = request.message;
  const sent = async function* () {
    for await (const message of messages) {
      yield requestCarrier.write(message, carrier);
    }
  };
  return { ...request, message: sent() };
}
