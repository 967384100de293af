import { type ContextKey, createContextKey } from "@connectrpc/connect";
import {
  type Context,
  isSpanContextValid,
  type Link,
  ROOT_CONTEXT,
  type TextMapGetter,
  type TextMapPropagator,
  trace,
} from "@opentelemetry/api";

/**
 * Context key of a call's OpenTelemetry context.
 *
 * Use it to pass a parent explicitly, and in runtimes that do not propagate contexts across `await`, such as browsers.
 * - Server: `handlerContext.values.get(otelContext)` is the context with the call's span, which is also active while the handler runs.
 *   A context set by an earlier interceptor is the span's parent and takes precedence over headers.
 * - Client: `createContextValues().set(otelContext, parent)` sets the parent of one call's span, instead of the active context.
 */
export const otelContext: ContextKey<Context> = createContextKey(ROOT_CONTEXT, {
  description: "OpenTelemetry context",
});

/** Network peer of a call. */
export interface NetworkPeer {
  /** IP address, or path of a Unix socket. */
  readonly address: string;
  readonly port?: number | undefined;
}

/**
 * Context key of `network.peer.address` and `.port`, which Connect does not pass to interceptors.
 *
 * @example
 * connectNodeAdapter({
 *   contextValues: ({ socket }) =>
 *     createContextValues().set(networkPeer, { address: socket.remoteAddress ?? "", port: socket.remotePort }),
 * })
 */
export const networkPeer: ContextKey<NetworkPeer | undefined> = createContextKey<NetworkPeer | undefined>(undefined, {
  description: "network peer",
});

/**
 * Use of a caller's headers `traceparent`, `tracestate` and `baggage` for the server's span.
 *
 * - `link`: the span starts a new trace and links to the caller's. Use it for servers with untrusted clients, which could otherwise
 *   control the sampling and join other traces. Tracestate and baggage are dropped.
 * - `trust`: the caller's span is the parent. Tracestate and baggage are propagated.
 * - `ignore`: the headers are not read.
 */
export type RemoteParent = "link" | "trust" | "ignore";

/** Parent and links of a server's span. */
export interface SpanOrigin {
  /** Context with the parent span; without a span in it, the server's span is a root. */
  readonly parent: Context;
  readonly links: readonly Link[];
}

/**
 * Reads the parent or link from the headers. Never throws: invalid headers count as absent.
 *
 * @param base context to extend. @default the root context, not the active context
 */
export function readRemoteParent(
  propagator: TextMapPropagator,
  header: Headers,
  policy: RemoteParent,
  base: Context = ROOT_CONTEXT,
): SpanOrigin {
  const nowhere = { parent: base, links: [] };
  if (policy === "ignore") {
    return nowhere;
  }
  const extracted = extract(propagator, header, base);
  if (policy === "trust") {
    return { parent: extracted, links: [] };
  }
  const caller = trace.getSpanContext(extracted);
  if (caller === undefined || !isSpanContextValid(caller)) {
    return nowhere;
  }
  const { traceId, spanId, traceFlags } = caller;
  return { parent: base, links: [{ context: { traceId, spanId, traceFlags, isRemote: true } }] };
}

function extract(propagator: TextMapPropagator, header: Headers, base: Context): Context {
  try {
    return propagator.extract(base, header, headersGetter);
  } catch {
    // The SDK's propagators skip invalid values, but the API does not guarantee that.
    return base;
  }
}

const headersGetter: TextMapGetter<Headers> = {
  keys: (header) => [...header.keys()],
  get: (header, key) => header.get(key) ?? undefined,
};
