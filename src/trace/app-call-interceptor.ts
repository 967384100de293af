import { createContextKey, type Interceptor, type StreamRequest, type UnaryRequest } from "@connectrpc/connect";
import {
  type Context,
  context,
  type Meter,
  ROOT_CONTEXT,
  SpanKind,
  type TextMapPropagator,
  type Tracer,
} from "@opentelemetry/api";
import { grpcStatusName } from "../otelconnect/errors.js";
import { createClientInterceptor } from "../otelconnect/interceptors.js";
import { otelContext } from "../otelconnect/otel-context.js";
import { methodName } from "../otelconnect/rpc-attributes.js";
import { type Carrier, injectCarrier, requestCarrierOf } from "./carrier.js";
import { rpcStatusCode, settle } from "./span-scope.js";

export interface AppCallInterceptorOptions {
  readonly tracer: Tracer;
  /** Creates the metric `rpc.client.call.duration`. */
  readonly meter: Meter;
  /** Writes the carrier. */
  readonly propagator: TextMapPropagator;
  /** Name of the span, such as `call-image-pipeline`. */
  readonly name: string;
  /** App id of the called app. */
  readonly appId: string;
}

/** Context key of calls without a span and a carrier, which belong to no request: `createContextValues().set(untraced, true)`. */
export const untraced = createContextKey(false, { description: "call without a span" });

/**
 * Creates one CLIENT span per call to another app, and measures the call, retries included.
 *
 * - Attributes: `app.id`, `rpc.system.name`, `rpc.method` and `rpc.response.status_code` (`OK` or the name of the error code).
 * - Parent: the call's `otelContext`, or the active span.
 * - Propagation: in the headers, and in the request's field `trace_context` if the contract has it and it is empty. The propagated
 *   context is the parent's, so the called app's span is a sibling of this span, not its child.
 * - End of a stream's span: when the stream ends or its signal is aborted. Generated clients do not forward `break`.
 *
 * @see https://opentelemetry.io/docs/specs/semconv/rpc/rpc-spans/
 */
export function createAppCallInterceptor(options: AppCallInterceptorOptions): Interceptor {
  const { tracer, meter, propagator, name, appId } = options;
  const spans = createClientInterceptor({
    tracer,
    meter,
    system: "grpc",
    // The default would propagate this span's context instead of the parent's.
    propagator: { inject() {}, extract: (scope) => scope, fields: () => [] },
    spanName: () => name,
    spanAttributes: false,
    attributes: ({ method }) => ({ "app.id": appId, "rpc.system.name": "grpc", "rpc.method": methodName(method) }),
    metricAttributes: () => ({ "app.id": appId }),
    beforeEnd(span, { code, isError }) {
      span.setAttribute(rpcStatusCode, code === undefined ? "OK" : grpcStatusName(code));
      if (code !== undefined && isError) {
        settle(span, SpanKind.CLIENT, code);
      }
    },
  });
  return (next) => {
    const inSpan = spans(next);
    return (request) => {
      if (request.contextValues.get(untraced)) {
        return next(request);
      }
      const carrier = injectCarrier(propagator, parentOf(request));
      for (const [key, value] of Object.entries(carrier)) {
        request.header.set(key, value);
      }
      return inSpan(withCarrier(request, carrier));
    };
  };
}

function parentOf({ contextValues }: UnaryRequest | StreamRequest): Context {
  const parent = contextValues.get(otelContext);
  return parent === ROOT_CONTEXT ? context.active() : parent;
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
