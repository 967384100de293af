/**
 * OpenTelemetry for Connect clients and servers, in Node and browsers.
 *
 * @module otelconnect
 */

export { isErrorCode, type RpcSide, type RpcSystem } from "./errors.js";
export { createClientInterceptor, createServerInterceptor } from "./interceptors.js";
export type { ClientInterceptorOptions, OtelConnectOptions, RpcOutcome, ServerInterceptorOptions } from "./options.js";
export type { RemoteParent, SpanOrigin } from "./otel-context.js";
export { type NetworkPeer, networkPeer, otelContext } from "./otel-context.js";
export type { AttributeFilter, RpcRequest } from "./rpc-attributes.js";
