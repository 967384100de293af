import type { Logger } from "pino";
import { logRefusedFile } from "../../app/observe.js";
import { type AppDirectory, createAppDirectory } from "../../mesh/directory/app-directory.js";
import { reloadAppsFile } from "../../mesh/directory/apps-file.js";
import { CommandError, usageError } from "../command-error.js";
import { defaultWorkers, type directorySettings } from "../settings/directory-settings.js";
import type { SettingsOf } from "../settings/setting.js";

/**
 * The directory of the worker apps, as the settings say. A file is looked at from now on.
 *
 * @throws CommandError where settings do not go together (bad usage), or the file is wrong.
 */
export function directoryOf(
  { workers, apps, defaultApp }: SettingsOf<typeof directorySettings>,
  logger: Pick<Logger, "error" | "warn">,
): AppDirectory {
  if (apps === undefined) {
    return directoryOfTargets(workers ?? defaultWorkers, defaultApp);
  }
  if (workers !== undefined || defaultApp !== undefined) {
    throw usageError("a file of apps (--apps) says all: --worker and --default-app do not go with it");
  }
  return directoryOfFile(apps, logger);
}

/** With one worker alone, that one is the default. */
function directoryOfTargets(workers: Readonly<Record<string, string>>, defaultApp: string | undefined): AppDirectory {
  const appIds = Object.keys(workers);
  const chosen = defaultApp ?? (appIds.length === 1 ? appIds[0] : undefined);
  const apps = Object.fromEntries(Object.entries(workers).map(([appId, target]) => [appId, { target }]));
  try {
    return createAppDirectory({ apps, ...(chosen !== undefined && { defaultApp: chosen }) });
  } catch (error) {
    throw usageError(`--worker and --default-app do not fit: ${error instanceof Error ? error.message : error}`);
  }
}

/** The directory that a file holds. @throws CommandError that says what is wrong with it. */
export function directoryOfFile(file: string, logger: Pick<Logger, "error" | "warn">): AppDirectory {
  const read = (): AppDirectory => {
    try {
      return reloadAppsFile(file, { onRefused: logRefusedFile(logger) });
    } catch (error) {
      throw new CommandError(error instanceof Error ? error.message : String(error), { cause: error });
    }
  };
  const directory = read();
  const warn = () => {
    for (const appId of directory.appIds) {
      const { security } = directory.lookUp(appId);
      if (security?.keyFile !== undefined && security.tls === undefined) {
        logger.warn({ app: appId }, "the key for this app travels in cleartext");
      }
    }
  };
  warn();
  directory.onChange(warn);
  return directory;
}
