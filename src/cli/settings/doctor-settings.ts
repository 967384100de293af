import { setting } from "./setting.js";
import { truth } from "./setting-schemas.js";
import {
  collectorPortSetting,
  deviceSetting,
  jsonSetting,
  modelSetting,
  pipelinePortSetting,
  precisionSetting,
  threadsSetting,
  workerImagesSetting,
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
  images: workerImagesSetting,
  hub: setting({
    flag: "hub",
    schema: truth,
    default: "false",
    help: "Ask the Hugging Face Hub whether it answers, too",
  }),
  json: jsonSetting,
};
