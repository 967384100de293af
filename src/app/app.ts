/**
 * Build your own service: `createApp`. `throughline/run` runs it as a process.
 *
 * @module app
 */

export type { CallerHandler } from "../mesh/access/access-control.js";
export type { CallerDirectory, CallerEntry, Credentials } from "../mesh/access/caller-directory.js";
export { type Caller, callerOf, checkMayUse } from "../mesh/access/callers.js";
export { reloadCallersFile } from "../mesh/access/callers-file.js";
export { createHostCheck, type HostCheck, type HostCheckOptions } from "../mesh/access/host-check.js";
export type { RejectionReason } from "../mesh/access/rejections.js";
export type { AppStatus } from "../mesh/directory/app-connections.js";
export type { WorkerHealth, WorkerStatus } from "../mesh/grpc/connection.js";
export type { ListenLimits } from "../mesh/port/listen-limits.js";
export type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
export type { ServerTls } from "../mesh/port/tls-acceptor.js";
export type { Reloaded, ReloadOptions } from "../mesh/tls/reloaded-files.js";
export { reloadTlsMaterial, type TlsFiles, type TlsMaterial } from "../mesh/tls/tls-material.js";
export { type Carrier, extractCarrier, injectCarrier } from "../trace/carrier.js";
export { serverScope } from "../trace/server-span-interceptor.js";
export { type InSpan, type SpanScopeOptions, traceIdOf, withSpan } from "../trace/span-scope.js";
export type { PrometheusMetrics } from "../trace/telemetry/metrics.js";
export type { Telemetry } from "../trace/telemetry/telemetry.js";
export type { AppClients } from "./app-clients.js";
export type { AppHost } from "./app-host.js";
export { onwardCall } from "./call-deadline.js";
export {
  type App,
  type AppOptions,
  createApp,
  type InMemoryApp,
  type RunningApp,
  type ServeOptions,
  type SetupHooks,
} from "./create-app.js";
export type { HttpRoute, RouteLog } from "./http-route.js";
