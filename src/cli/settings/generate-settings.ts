import { requestSettings } from "./request-settings.js";
import { serverAccessSettings } from "./server-access-settings.js";
import { optionalSetting, setting } from "./setting.js";
import { appId, decimalNumber, httpUrl, oneOf } from "./setting-schemas.js";
import {
  collectorUrlSetting,
  defaultCollectorUrl,
  defaultServerUrl,
  jsonSetting,
  quietSetting,
} from "./shared-settings.js";

/** Settings of `throughline generate`. */
export const generateSettings = {
  server: setting({
    flag: "server",
    argument: "url",
    variable: "THROUGHLINE_SERVER",
    schema: httpUrl,
    default: defaultServerUrl,
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
  delivery: optionalSetting({
    flag: "delivery",
    argument: "how",
    schema: oneOf(["url", "data-uri", "inline"]),
    absent: "a URL where the pipeline keeps pictures; with --tls-ca inside the answer",
    help: "How the picture comes: url, to be fetched, or inside the answer as data-uri or inline (bytes)",
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
  collector: optionalSetting({
    ...collectorUrlSetting,
    absent: `${defaultCollectorUrl} where the pipeline is on this machine, else none`,
    help: "Base URL of a local collector that is asked for the trace; with --json its spans are told where this is given",
  }),
  json: jsonSetting,
  quiet: quietSetting,
};
