/** What `throughline/app` offers: all that makes a service of yours an app of the mesh. `throughline/run` runs it as a process. */
export { type Caller, callerOf, checkMayUse } from "../mesh/access/callers.js";
export { type Carrier, extractCarrier, injectCarrier } from "../trace/carrier.js";
export type { Telemetry } from "../trace/sdk/telemetry.js";
export { serverScope } from "../trace/server-span-interceptor.js";
export { withSpan } from "../trace/span-scope.js";
export { traceIdOf } from "../trace/trace-id.js";
export type { AppClients } from "./app-clients.js";
export type { AppHost } from "./app-host.js";
export { onwardCall } from "./call-deadline.js";
export {
  type App,
  type AppOptions,
  createApp,
  type RunningApp,
  type ServeOptions,
  type SetupHooks,
} from "./create-app.js";
