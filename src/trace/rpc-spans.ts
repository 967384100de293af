import type { DescService } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { createNoopMeter, type TextMapPropagator, type Tracer, trace } from "@opentelemetry/api";
import { createClientInterceptor } from "../otelconnect/client-interceptor.js";
import { type RemoteParent, readRemoteParent, type SpanOrigin } from "../otelconnect/remote-parent.js";
import { createServerInterceptor } from "../otelconnect/server-interceptor.js";
import { bodyCarrier, withBodyCarrier } from "./body-carrier.js";
import { type Carrier, extractCarrier } from "./carrier.js";

/** What decides about spans by the conventions for RPC. */
export interface RpcSpansOptions {
  /** Whether there are any: `THROUGHLINE_RPC_SPANS`. */
  readonly rpcSpans: boolean;
  readonly tracer: Tracer;
  readonly propagator: TextMapPropagator;
}

/**
 * The interceptor that makes a span of each call of a server's services; none where they are not wanted. Put it before all others: the
 * app's own span becomes its child, unless the body of the request names another parent.
 *
 * A body that names a parent vouches for headers of the same trace; else they count as `policy` says.
 */
export function rpcServerSpans(
  { rpcSpans, tracer, propagator }: RpcSpansOptions,
  services: readonly DescService[],
  policy: RemoteParent,
): Interceptor[] {
  if (!rpcSpans) {
    return [];
  }
  const spans = createServerInterceptor({
    tracer,
    meter: createNoopMeter(),
    propagator,
    remoteParent: policy,
    nestInActiveSpan: false,
    origin: ({ header, contextValues }) => vouchedFor(propagator, contextValues.get(bodyCarrier), header),
  });
  return [withBodyCarrier(spans, services)];
}

/** The interceptor that makes a span of each call of a client, retries and all; none where they are not wanted. */
export function rpcClientSpans({ rpcSpans, tracer, propagator }: RpcSpansOptions): Interceptor[] {
  return rpcSpans ? [createClientInterceptor({ tracer, meter: createNoopMeter(), propagator, system: "grpc" })] : [];
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
