import { appsFileSetting } from "./directory-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { text, truth } from "./setting-schemas.js";
import {
  collectorPortSetting,
  deviceSetting,
  logLevelSetting,
  modelSetting,
  pipelinePortSetting,
  precisionSetting,
  threadsSetting,
  workerPortSetting,
} from "./shared-settings.js";

/** Settings of `throughline dev`. */
export const devSettings = {
  pipelinePort: setting({ flag: "pipeline-port", ...pipelinePortSetting }),
  workerPort: setting({ flag: "worker-port", ...workerPortSetting }),
  collectorPort: setting({ flag: "collector-port", ...collectorPortSetting }),
  images: optionalSetting({
    flag: "images",
    argument: "folder",
    variable: "THROUGHLINE_PIPELINE_IMAGES",
    schema: text,
    absent: "a temporary folder that goes when the command ends",
    help: "Folder in which the pipeline keeps pictures, to be fetched by URL; one process owns it",
  }),
  apps: appsFileSetting,
  model: modelSetting,
  device: deviceSetting,
  precision: precisionSetting,
  threads: threadsSetting,
  logLevel: setting({ ...logLevelSetting, default: "warn" }),
  json: setting({
    flag: "json",
    schema: truth,
    default: "false",
    help: "Print one JSON object a line and nothing else: the services' URLs, then each request that has ended",
  }),
  quiet: setting({ flag: "quiet", schema: truth, default: "false", help: "Show no requests" }),
};
