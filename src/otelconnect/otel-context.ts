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
 * Key under which a call's OpenTelemetry context stands, for code that says its parents and for runtimes that keep no context across
 * `await`, such as browsers.
 * - Server: `handlerContext.values.get(otelContext)` is the context with the call's span, which is active too while the handler runs.
 *   What an earlier interceptor put there is the parent of the span; it wins over headers.
 * - Client: `createContextValues().set(otelContext, parent)` makes the parent of one call's span, in place of the active context.
 */
export const otelContext: ContextKey<Context> = createContextKey(ROOT_CONTEXT, {
  description: "OpenTelemetry context",
});

/** The network's other end of a call. */
export interface NetworkPeer {
  /** IP address, or path of a Unix socket. */
  readonly address: string;
  readonly port?: number | undefined;
}

/**
 * Key under which a server finds `network.peer.address` and `.port`, which Connect does not tell interceptors:
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
 * What the headers of a caller (`traceparent`, `tracestate`, `baggage`) mean for the server's span:
 * - `link`: the span begins a trace of its own and links to the caller's. For servers that strangers reach: whoever could choose
 *   the parent could also choose the sampling, and join traces that are not theirs. Tracestate and baggage end here;
 * - `trust`: the caller's span is the parent, and tracestate and baggage travel on;
 * - `ignore`: the headers are not read.
 */
export type RemoteParent = "link" | "trust" | "ignore";

/** Where a server's span begins. */
export interface SpanOrigin {
  /** Context with the parent span, or without one, which makes a root. */
  readonly parent: Context;
  readonly links: readonly Link[];
}

/**
 * Reads what the headers say, on top of `base`. Never throws, whatever they hold: what cannot be read counts as absent.
 *
 * @param base what is known of the call's context besides. @default the root context, and not the active one
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
    // The API does not promise what the SDK's propagators do, which is to skip what they cannot read.
    return base;
  }
}

const headersGetter: TextMapGetter<Headers> = {
  keys: (header) => [...header.keys()],
  get: (header, key) => header.get(key) ?? undefined,
};
