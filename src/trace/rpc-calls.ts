import type { Interceptor } from "@connectrpc/connect";
import type { Meter, TextMapPropagator, Tracer } from "@opentelemetry/api";
import { createClientInterceptor } from "../otelconnect/client-interceptor.js";

/** What watches calls by the conventions for RPC. */
export interface RpcCallsOptions {
  /** Whether there are spans: `THROUGHLINE_RPC_SPANS`. */
  readonly rpcSpans: boolean;
  readonly tracer: Tracer;
  /** Measures how long calls take. */
  readonly meter: Meter;
  readonly propagator: TextMapPropagator;
}

/**
 * The interceptor that measures each call of an app, retries and all, and makes a span of it where they are wanted.
 *
 * @param appId stands on the metric as `app.id`.
 */
export function rpcClientCalls({ rpcSpans, tracer, meter, propagator }: RpcCallsOptions, appId: string): Interceptor {
  const metricAttributes = () => ({ "app.id": appId });
  return createClientInterceptor({ spans: rpcSpans, tracer, meter, propagator, system: "grpc", metricAttributes });
}
