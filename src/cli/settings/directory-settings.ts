import { defaultAppId } from "../../worker/default-app-id.js";
import { optionalSetting } from "./setting.js";
import { appId, text, workerTargets } from "./setting-schemas.js";

/** The worker of a machine on which nothing is configured. */
export const defaultWorkers = { [defaultAppId]: "127.0.0.1:50052" };

/** File of apps, for whoever calls apps. */
export const appsFileSetting = optionalSetting({
  flag: "apps",
  argument: "file",
  variable: "THROUGHLINE_APPS_FILE",
  schema: text,
  absent: "none",
  help: "Worker apps with their targets, policies and credentials, YAML or JSON as docs/operations.md has it; read anew when it changes",
});

/** Settings of which worker apps there are. */
export const directorySettings = {
  workers: optionalSetting({
    flag: "worker",
    argument: "owner/name=target",
    variable: "THROUGHLINE_WORKERS",
    schema: workerTargets,
    repeatable: true,
    absent: Object.entries(defaultWorkers).join().replace(",", "="),
    help: "App id of a worker and its gRPC target; the flag may be repeated, the variable lists them with commas",
  }),
  apps: appsFileSetting,
  defaultApp: optionalSetting({
    flag: "default-app",
    argument: "owner/name",
    variable: "THROUGHLINE_DEFAULT_APP",
    schema: appId,
    absent: "the worker, where there is only one",
    help: "App id for requests that name none; a file of apps says it itself",
  }),
};
