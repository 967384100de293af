import { setting } from "./setting.js";
import { text } from "./setting-schemas.js";
import { jsonSetting } from "./shared-settings.js";

/** Settings of `throughline keys`. */
export const keysSettings = {
  name: setting({
    flag: "name",
    argument: "name",
    schema: text,
    default: "caller",
    help: "Name of the caller, for the entry in the file of callers",
  }),
  json: jsonSetting,
};
