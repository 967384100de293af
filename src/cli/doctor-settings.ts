import { optionalSetting, setting } from "./setting.js";
import { text, truth } from "./setting-schemas.js";
import {
  collectorPortSetting,
  deviceSetting,
  jsonSetting,
  modelSetting,
  pipelinePortSetting,
  precisionSetting,
  threadsSetting,
  workerPortSetting,
} from "./shared-settings.js";

/** Settings of `throughline doctor`: those of the services that it looks after. */
export const doctorSettings = {
  model: modelSetting,
  device: deviceSetting,
  precision: precisionSetting,
  threads: threadsSetting,
  pipelinePort: setting({ flag: "pipeline-port", ...pipelinePortSetting }),
  workerPort: setting({ flag: "worker-port", ...workerPortSetting }),
  collectorPort: setting({ flag: "collector-port", ...collectorPortSetting }),
  images: optionalSetting({
    flag: "images",
    argument: "folder",
    variable: "THROUGHLINE_WORKER_IMAGES",
    schema: text,
    absent: "data: URIs",
    help: "Folder in which the worker keeps pictures, to be fetched by URL; one process owns it",
  }),
  hub: setting({
    flag: "hub",
    schema: truth,
    default: "false",
    help: "Ask the Hugging Face Hub whether it answers, too",
  }),
  json: jsonSetting,
};
