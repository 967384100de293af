import { requestSettings } from "./request-settings.js";
import {
  deviceSetting,
  jsonSetting,
  modelSetting,
  precisionSetting,
  quietSetting,
  threadsSetting,
} from "./shared-settings.js";

/** Settings of `throughline demo`. */
export const demoSettings = {
  ...requestSettings,
  model: modelSetting,
  device: deviceSetting,
  precision: precisionSetting,
  threads: threadsSetting,
  json: jsonSetting,
  quiet: quietSetting,
};
