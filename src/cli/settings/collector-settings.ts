import { protectionSettings } from "./protection-settings.js";
import { setting } from "./setting.js";
import { collectorPortSetting, hostSetting, logLevelSetting } from "./shared-settings.js";

/** Settings of `throughline collector`. */
export const collectorSettings = {
  host: hostSetting,
  port: setting({ flag: "port", ...collectorPortSetting }),
  ...protectionSettings,
  logLevel: logLevelSetting,
};
