import { type ContextKey, createContextKey } from "@connectrpc/connect";
import { type Context, ROOT_CONTEXT } from "@opentelemetry/api";

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
