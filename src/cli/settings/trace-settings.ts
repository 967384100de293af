import { serverAccessSettings } from "./server-access-settings.js";
import { setting } from "./setting.js";
import { truth, wholeNumber } from "./setting-schemas.js";
import { collectorUrlSetting, defaultCollectorUrl, jsonSetting } from "./shared-settings.js";

const collectorSetting = setting({
  ...collectorUrlSetting,
  default: defaultCollectorUrl,
  help: "Base URL of the local collector",
});

/** Settings of `throughline trace`. */
export const traceSettings = {
  collector: collectorSetting,
  verbose: setting({
    flag: "verbose",
    letter: "v",
    schema: truth,
    default: "false",
    help: "Show the attributes and events of each span too",
  }),
  ...serverAccessSettings,
  json: jsonSetting,
};

/** Settings of `throughline traces`. */
export const tracesSettings = {
  collector: collectorSetting,
  limit: setting({
    flag: "limit",
    argument: "number",
    schema: wholeNumber(1, 1000),
    default: "20",
    help: "Most traces that are listed, 1 to 1000",
  }),
  ...serverAccessSettings,
  json: jsonSetting,
};
