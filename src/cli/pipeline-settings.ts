import { defaultAppId } from "../worker/default-app-id.js";
import { protectionSettings, reflectionSetting } from "./protection-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { appId, httpUrl, origins, text, truth, workerTargets } from "./setting-schemas.js";
import {
  graceSetting,
  hostSetting,
  imageMaxAgeSetting,
  imageMaxBytesSetting,
  logLevelSetting,
  pipelinePortSetting,
} from "./shared-settings.js";
import { workerSecuritySettings } from "./worker-security-settings.js";

/** Settings of `throughline pipeline`. */
export const pipelineSettings = {
  host: hostSetting,
  port: setting({ flag: "port", ...pipelinePortSetting }),
  workers: setting({
    flag: "worker",
    argument: "owner/name=target",
    variable: "THROUGHLINE_WORKERS",
    schema: workerTargets,
    repeatable: true,
    default: `${defaultAppId}=127.0.0.1:50052`,
    help: "App id of a worker and its gRPC target; the flag may be repeated, the variable lists them with commas",
  }),
  defaultApp: optionalSetting({
    flag: "default-app",
    argument: "owner/name",
    variable: "THROUGHLINE_DEFAULT_APP",
    schema: appId,
    absent: "the worker, where there is only one",
    help: "App id for requests that name none",
  }),
  images: optionalSetting({
    flag: "images",
    argument: "folder",
    variable: "THROUGHLINE_PIPELINE_IMAGES",
    schema: text,
    absent: "data: URIs",
    help: "Folder in which the pipeline keeps pictures, to be fetched by URL; one process owns it",
  }),
  imageMaxBytes: imageMaxBytesSetting,
  imageMaxAge: imageMaxAgeSetting,
  publicUrl: optionalSetting({
    flag: "public-url",
    argument: "url",
    variable: "THROUGHLINE_PIPELINE_PUBLIC_URL",
    schema: httpUrl,
    absent: "the URL that the call came to",
    help: "Base URL under which callers reach the pipeline's pictures",
  }),
  trustTraceparent: setting({
    flag: "trust-traceparent",
    variable: "THROUGHLINE_PIPELINE_TRUST_TRACEPARENT",
    schema: truth,
    default: "false",
    help: "Make a caller's traceparent header the parent of the request's trace, instead of a link",
  }),
  corsOrigins: optionalSetting({
    flag: "cors-origin",
    argument: "origin",
    variable: "THROUGHLINE_CORS_ORIGINS",
    schema: origins,
    repeatable: true,
    absent: "none",
    help: "Origin whose web pages may call, or * for any; the flag may be repeated, the variable lists them with commas",
  }),
  ...protectionSettings,
  reflection: reflectionSetting,
  ...workerSecuritySettings,
  grace: graceSetting,
  logLevel: logLevelSetting,
};
