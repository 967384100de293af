import type { Interceptor, StreamRequest, StreamResponse, UnaryRequest, UnaryResponse } from "@connectrpc/connect";
import { context, SpanKind, type TextMapPropagator, type Tracer, trace } from "@opentelemetry/api";
import { bindIterable } from "./bind-iterable.js";
import { type Carrier, injectCarrier } from "./carrier.js";
import { clientAttributes } from "./client-span.js";
import { requestCarrierOf } from "./request-carrier.js";
import { codeOf, rpcStatusName } from "./rpc-status.js";
import { rpcStatusCode, settleFailure, settleLeft } from "./settle-span.js";

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
 * Makes the one CLIENT span of a call of another app, a child of the span that is active, with the attributes of `withClientSpan`, and
 * sends the trace along: in the headers, and in the request's field `trace_context` where its contract has one and the caller left it
 * empty. What travels is the context of the active span, so the other app's span is a sibling of this one, not its child.
 *
 * The span of a stream ends when it is read to its end, or when its signal is aborted: generated clients do not pass `break` on.
 */
export function createClientSpanInterceptor(options: ClientSpanInterceptorOptions): Interceptor {
  const { tracer, propagator, name, appId } = options;
  return (next) => async (request) => {
    const parent = context.active();
    const carrier = injectCarrier(propagator, parent);
    for (const [key, value] of Object.entries(carrier)) {
      request.header.set(key, value);
    }
    const attributes = clientAttributes(appId, request.method);
    const span = tracer.startSpan(name, { kind: SpanKind.CLIENT, attributes }, parent);
    const scope = trace.setSpan(parent, span);
    let ended = false;
    const end = (code: string, settle: () => void = () => {}) => {
      if (!ended) {
        ended = true;
        span.setAttribute(rpcStatusCode, code);
        settle();
        span.end();
      }
    };
    const ending = {
      done: () => end("OK"),
      failed: (error: unknown) => end(rpcStatusName(codeOf(error)), () => settleFailure(span, SpanKind.CLIENT, error)),
      left: () => end("CANCELLED", () => settleLeft(span, SpanKind.CLIENT)),
    };
    let response: UnaryResponse | StreamResponse;
    try {
      response = await context.with(scope, () => next(withCarrier(request, carrier)));
    } catch (error) {
      ending.failed(error);
      throw error;
    }
    if (!response.stream) {
      ending.done();
      return response;
    }
    // Whoever still reads hears of the abort before that, as an error.
    request.signal.addEventListener("abort", () => setImmediate(ending.left), { once: true });
    const { message } = response;
    return { ...response, message: { [Symbol.asyncIterator]: () => bindIterable(scope, () => message, ending) } };
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
