/**
 * What `throughline/otelconnect` offers: OpenTelemetry for Connect, at both ends of a call. It runs in Node and in browsers.
 *
 * @module otelconnect
 */
export { createClientInterceptor } from "./client-interceptor.js";
export type { ClientInterceptorOptions, OtelConnectOptions, RpcOutcome, ServerInterceptorOptions } from "./options.js";
export { type NetworkPeer, networkPeer, otelContext } from "./otel-context.js";
export type { RemoteParent, SpanOrigin } from "./remote-parent.js";
export type { AttributeFilter, RpcRequest } from "./rpc-attributes.js";
export { createServerInterceptor } from "./server-interceptor.js";
export { isErrorCode, type RpcSide, type RpcSystem } from "./status-codes.js";
