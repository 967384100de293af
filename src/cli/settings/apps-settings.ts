import { directorySettings } from "./directory-settings.js";
import { serverAccessSettings } from "./server-access-settings.js";
import { optionalSetting } from "./setting.js";
import { httpUrl } from "./setting-schemas.js";
import { jsonSetting } from "./shared-settings.js";
import { workerSecuritySettings } from "./worker-security-settings.js";

/** Settings of `throughline apps`. */
export const appsSettings = {
  pipeline: optionalSetting({
    flag: "pipeline",
    argument: "url",
    schema: httpUrl,
    absent: "the workers are asked for their health, and there are no figures",
    help: "Base URL of a pipeline with --show-apps: its apps, and the figures of the calls that it makes",
  }),
  ...serverAccessSettings,
  ...directorySettings,
  ...workerSecuritySettings,
  json: jsonSetting,
};
