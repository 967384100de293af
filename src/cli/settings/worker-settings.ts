import { defaultStallMs } from "../../engine/child/engine-process.js";
import { defaultMaxWaiting } from "../../worker/admission.js";
import { defaultAppId } from "../../worker/default-app-id.js";
import { ignoreUnknownFieldsSetting, protectionSettings, reflectionSetting } from "./protection-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { appId, decimalNumber, httpUrl, truth, wholeNumber } from "./setting-schemas.js";
import {
  deviceSetting,
  graceSetting,
  hostSetting,
  imageMaxAgeSetting,
  imageMaxBytesSetting,
  logLevelSetting,
  metricsPortSetting,
  modelSetting,
  precisionSetting,
  threadsSetting,
  workerImagesSetting,
  workerPortSetting,
} from "./shared-settings.js";

/** Settings of `throughline worker`. */
export const workerSettings = {
  app: setting({
    flag: "app",
    argument: "owner/name",
    variable: "THROUGHLINE_APP",
    schema: appId,
    default: defaultAppId,
    help: "App id of the worker",
  }),
  host: hostSetting,
  port: setting({ flag: "port", ...workerPortSetting }),
  metricsPort: optionalSetting({ ...metricsPortSetting, variable: "THROUGHLINE_WORKER_METRICS_PORT" }),
  model: modelSetting,
  device: deviceSetting,
  precision: precisionSetting,
  threads: threadsSetting,
  maxWaiting: setting({
    flag: "max-waiting",
    argument: "number",
    variable: "THROUGHLINE_MAX_WAITING",
    schema: wholeNumber(0, 100_000),
    default: String(defaultMaxWaiting),
    help: "Requests that may wait besides the one that is painted; more are refused",
  }),
  engineMemory: setting({
    flag: "engine-memory",
    argument: "MiB",
    variable: "THROUGHLINE_ENGINE_MEMORY",
    schema: wholeNumber(0, 100_000_000),
    default: "0",
    help: "Memory of the engine's process above which it is started anew after a picture, and at 1.5 times as much in the middle of one; 0 sets no limit",
  }),
  engineStall: setting({
    flag: "engine-stall",
    argument: "seconds",
    variable: "THROUGHLINE_ENGINE_STALL",
    schema: decimalNumber(1, 86_400),
    default: String(defaultStallMs / 1000),
    help: "Seconds without a new step after which the engine counts as hung and is started anew; more for pictures beyond 1024×1024, and ten times the longest step so far where that is more",
  }),
  images: workerImagesSetting,
  imageMaxBytes: imageMaxBytesSetting,
  imageMaxAge: imageMaxAgeSetting,
  publicUrl: optionalSetting({
    flag: "public-url",
    argument: "url",
    variable: "THROUGHLINE_WORKER_PUBLIC_URL",
    schema: httpUrl,
    absent: "the URL that the call came to",
    help: "Base URL under which callers reach the worker's pictures",
  }),
  trustTraceparent: setting({
    flag: "trust-traceparent",
    variable: "THROUGHLINE_WORKER_TRUST_TRACEPARENT",
    schema: truth,
    default: "false",
    help: "Take a caller's traceparent header as the trace's parent where the request's body brings none",
  }),
  ...protectionSettings,
  reflection: reflectionSetting,
  ignoreUnknownFields: ignoreUnknownFieldsSetting,
  grace: graceSetting,
  logLevel: logLevelSetting,
};
