import type { Interceptor } from "@connectrpc/connect";
import type { Meter } from "@opentelemetry/api";
import { createClientInterceptor } from "../otelconnect/client-interceptor.js";

/** What measures calls by the conventions for RPC. */
export interface RpcCallsOptions {
  /** Measures how long calls take. */
  readonly meter: Meter;
}

/**
 * The interceptor that measures each call of an app, retries and all.
 *
 * @param appId stands on the metric as `app.id`.
 */
export function rpcClientCalls({ meter }: RpcCallsOptions, appId: string): Interceptor {
  return createClientInterceptor({
    spans: false,
    meter,
    system: "grpc",
    metricAttributes: () => ({ "app.id": appId }),
  });
}
