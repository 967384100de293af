import { requestSettings } from "./request-settings.js";
import { jsonSetting, modelSetting, quietSetting, threadsSetting } from "./shared-settings.js";

/** Settings of `throughline demo`. */
export const demoSettings = {
  ...requestSettings,
  model: modelSetting,
  threads: threadsSetting,
  json: jsonSetting,
  quiet: quietSetting,
};
