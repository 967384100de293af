/**
 * Run the two services in your own program. `throughline/app` has the options for serving and access control.
 *
 * @module server
 */

export type { RunningEvent } from "../app/event-stream.js";
export { type Observed, type ObserveOptions, observe } from "../app/observe.js";
export { type AppCalls, type CallDemand, createCallDemand } from "../calls/demand.js";
export type { DetachedCall, GenerateEvent, PipelineCalls, WorkerCount } from "../calls/pipeline-calls.js";
export type { LoadOrder, StartUpTimes } from "../engine/child/messages.js";
export type { Device, ExecutionProvider } from "../engine/device.js";
export type {
  Engine,
  EngineInfo,
  GeneratedImage,
  GenerateOptions,
  GenerationEvent,
  GenerationLimits,
  GenerationRequest,
  GenerationSettings,
  GenerationStage,
  GenerationTimings,
  LoraChoice,
  Pixels,
  PromptCacheUse,
  ScaledLora,
  SchedulerName,
  SideRule,
  SizeRules,
  StepLimits,
} from "../engine/engine.js";
export { type FieldViolation, GenerationError, type GenerationErrorKind } from "../engine/engine.js";
export type { Precision } from "../engine/graph-files.js";
export type { LoraSource } from "../engine/weights/lora.js";
export { createOpenAiFront } from "../fronts/openai/front.js";
export { createDirectoryStore, type DirectoryStoreOptions } from "../image/directory-store.js";
export type { EncodedImage, ImageFormat } from "../image/image-format.js";
export { type ImageStore, imageFileNameOf, type StoredImage } from "../image/image-store.js";
export { ImageStoreError, type ImageStoreFailure } from "../image/image-store-error.js";
export type { AdmittedCall } from "../mesh/access/access-control.js";
export type { ConnectApp } from "../mesh/directory/app-connections.js";
export {
  type AppDirectory,
  type AppDirectoryEntry,
  type AppDirectoryOptions,
  type AppEntry,
  createAppDirectory,
} from "../mesh/directory/app-directory.js";
export {
  type AppSecurity,
  type AppTls,
  type OpenAppSecurity,
  openAppSecurity,
} from "../mesh/directory/app-security.js";
export { type AppsFile, reloadAppsFile } from "../mesh/directory/apps-file.js";
export type { Connection, ConnectionSecurity } from "../mesh/grpc/connection.js";
export type { Policies, PoliciesInput } from "../mesh/grpc/policies.js";
export type { RegisteredReplica, RegisteredReplicas } from "../mesh/grpc/registered-replicas.js";
export type { FrontCall, HttpFront } from "../mesh/serve/http-front.js";
export {
  createPipelineApp,
  type PipelineAppOptions,
  type PipelineExtension,
  pipelineName,
} from "../pipeline/pipeline-app.js";
export type { PipelineStatus } from "../pipeline/status-route.js";
export {
  createRequestReporter,
  createRunningRequests,
  type RequestBegin,
  type RequestState,
  type RequestUpdate,
  type RunningRequest,
  type RunningRequests,
  type RunningRequestsOptions,
} from "../studio/running-requests.js";
export { type Environment, TelemetryConfigError, type TelemetryLog } from "../trace/telemetry/environment.js";
export type { Clock } from "../trace/telemetry/export-report.js";
export { createTelemetry, type TelemetryOptions } from "../trace/telemetry/telemetry.js";
export { defaultAppId } from "../worker/default-app-id.js";
export { embeddedModelFolder } from "../worker/embedded-model.js";
export {
  createEngineHost,
  type EngineHost,
  type EngineHostOptions,
  type EngineHostState,
} from "../worker/engine-host.js";
export { createWorkerApp, type ManagedEngine, type WorkerAppOptions, workerName } from "../worker/worker-app.js";
