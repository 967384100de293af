import { directorySettings } from "./directory-settings.js";
import { ignoreUnknownFieldsSetting, protectionSettings, reflectionSetting } from "./protection-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { httpUrl, origins, text, truth } from "./setting-schemas.js";
import {
  graceSetting,
  hostSetting,
  imageMaxAgeSetting,
  imageMaxBytesSetting,
  logLevelSetting,
  metricsPortSetting,
  pipelinePortSetting,
} from "./shared-settings.js";
import { studioSettings } from "./studio-settings.js";
import { workerSecuritySettings } from "./worker-security-settings.js";

/** Settings of `throughline pipeline`. */
export const pipelineSettings = {
  host: hostSetting,
  port: setting({ flag: "port", ...pipelinePortSetting }),
  metricsPort: optionalSetting({ ...metricsPortSetting, variable: "THROUGHLINE_PIPELINE_METRICS_PORT" }),
  ...directorySettings,
  showApps: setting({
    flag: "show-apps",
    variable: "THROUGHLINE_SHOW_APPS",
    schema: truth,
    default: "false",
    help: "Tell callers at /apps how the workers are of the apps that they may use, addresses included",
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
  ...studioSettings,
  ...protectionSettings,
  reflection: reflectionSetting,
  ignoreUnknownFields: ignoreUnknownFieldsSetting,
  ...workerSecuritySettings,
  grace: graceSetting,
  logLevel: logLevelSetting,
};
