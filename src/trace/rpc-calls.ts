import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { type Meter, type TextMapPropagator, type Tracer, trace } from "@opentelemetry/api";
import { createClientInterceptor } from "../otelconnect/client-interceptor.js";
import { type RemoteParent, readRemoteParent, type SpanOrigin } from "../otelconnect/remote-parent.js";
import { createServerInterceptor } from "../otelconnect/server-interceptor.js";
import { bodyCarrier, withBodyCarrier } from "./body-carrier.js";
import { type Carrier, extractCarrier } from "./carrier.js";

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
 * The interceptor that measures each call of a server's services, and makes a span of it where they are wanted. Put it before all others:
 * it sees the calls that they refuse, and the app's own span becomes its child, unless the body of the request names another parent.
 *
 * A body that names a parent vouches for headers of the same trace; else they count as `policy` says.
 */
export function rpcServerCalls(
  { rpcSpans, tracer, meter, propagator }: RpcCallsOptions,
  services: readonly DescService[],
  policy: RemoteParent,
): Interceptor {
  if (!rpcSpans) {
    const served = new Set(services.map((service) => service.typeName));
    return createServerInterceptor({ spans: false, meter, filter: ({ service }) => served.has(service.typeName) });
  }
  const calls = createServerInterceptor({
    tracer,
    meter,
    propagator,
    remoteParent: policy,
    nestInActiveSpan: false,
    origin: ({ header, contextValues }) => vouchedFor(propagator, contextValues.get(bodyCarrier), header),
  });
  return withBodyCarrier(calls, services);
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

function vouchedFor(propagator: TextMapPropagator, carrier: Carrier, header: Headers): SpanOrigin | undefined {
  const said = extractCarrier(propagator, carrier);
  const traceId = trace.getSpanContext(said)?.traceId;
  if (traceId === undefined) {
    return undefined;
  }
  const trusted = readRemoteParent(propagator, header, "trust");
  return trace.getSpanContext(trusted.parent)?.traceId === traceId ? trusted : { parent: said, links: [] };
}
