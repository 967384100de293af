import { requestSettings } from "./request-settings.js";
import { serverAccessSettings } from "./server-access-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { appId, decimalNumber, httpUrl, wholeNumber } from "./setting-schemas.js";
import { jsonSetting, quietSetting } from "./shared-settings.js";

/** Settings of `throughline generate`. */
export const generateSettings = {
  server: setting({
    flag: "server",
    argument: "url",
    variable: "THROUGHLINE_SERVER",
    schema: httpUrl,
    default: "http://127.0.0.1:8080",
    help: "Base URL of the pipeline",
  }),
  workerApp: optionalSetting({
    flag: "worker-app",
    argument: "owner/name",
    variable: "THROUGHLINE_WORKER_APP",
    schema: appId,
    absent: "the pipeline's default",
    help: "App id of the worker that shall paint",
  }),
  ...requestSettings,
  width: optionalSetting({
    flag: "width",
    argument: "pixels",
    schema: wholeNumber(64, 2048),
    absent: "the model's own",
    help: "Width in pixels, 64 to 2048, a multiple of 8",
  }),
  height: optionalSetting({
    flag: "height",
    argument: "pixels",
    schema: wholeNumber(64, 2048),
    absent: "the model's own",
    help: "Height in pixels, 64 to 2048, a multiple of 8",
  }),
  timeout: setting({
    flag: "timeout",
    argument: "seconds",
    variable: "THROUGHLINE_TIMEOUT",
    schema: decimalNumber(0.001, 86_400),
    default: "300",
    help: "Seconds until the request is given up",
  }),
  ...serverAccessSettings,
  json: jsonSetting,
  quiet: quietSetting,
};
