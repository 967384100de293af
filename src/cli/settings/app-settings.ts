import type { Environment } from "../../trace/telemetry/environment.js";
import { appsFileSetting } from "./directory-settings.js";
import { ignoreUnknownFieldsSetting, protectionSettings, reflectionSetting } from "./protection-settings.js";
import { readSettings } from "./read-settings.js";
import { optionalSetting, type SettingsOf, setting } from "./setting.js";
import { port, workerTargets } from "./setting-schemas.js";
import { graceSetting, hostSetting, logLevelSetting, metricsPortSetting } from "./shared-settings.js";
import { workerSecuritySettings } from "./worker-security-settings.js";

const settingsWith = (defaultPort: number) => ({
  host: hostSetting,
  port: setting({
    flag: "port",
    argument: "port",
    variable: "THROUGHLINE_PORT",
    schema: port,
    default: String(defaultPort),
    help: "Port of the app; 0 takes a free one",
  }),
  metricsPort: optionalSetting({ ...metricsPortSetting, variable: "THROUGHLINE_METRICS_PORT" }),
  apps: optionalSetting({
    flag: "apps",
    argument: "owner/name=target",
    variable: "THROUGHLINE_APPS",
    schema: workerTargets,
    absent: "none",
    help: "App ids of the apps that it may call and their gRPC targets, with commas between them",
  }),
  appsFile: appsFileSetting,
  ...workerSecuritySettings,
  ...protectionSettings,
  reflection: reflectionSetting,
  ignoreUnknownFields: ignoreUnknownFieldsSetting,
  grace: graceSetting,
  logLevel: logLevelSetting,
});

/** Settings of an app that is not one of the built-in ones. */
export type AppSettings = SettingsOf<ReturnType<typeof settingsWith>>;

/**
 * Reads what such an app takes from the environment, under the names that the built-in ones have where they share a setting.
 *
 * @throws CommandError that names the variable and the value given.
 */
export function readAppSettings(environment: Environment, defaultPort: number): AppSettings {
  return readSettings(settingsWith(defaultPort), {}, environment);
}
