import type { Logger } from "pino";
import { logRejectedFile } from "../../app/observe.js";
import { type AppDirectory, createAppDirectory } from "../../mesh/directory/app-directory.js";
import { reloadAppsFile } from "../../mesh/directory/apps-file.js";
import { CliError, messageOf, usageError } from "../errors.js";
import { defaultWorkers, type directoryOptions } from "../options/app-options.js";
import type { OptionValues } from "../options/option.js";
import { problemsOf, rejectProblems, type SettingProblem } from "../options/setting-problem.js";

/**
 * Creates the directory of the worker apps. A file is reloaded when it changes.
 *
 * @throws CliError when options exclude each other (bad usage), or when the file is wrong.
 */
export function directoryOf(
  settings: OptionValues<typeof directoryOptions>,
  logger: Pick<Logger, "error" | "warn">,
): AppDirectory {
  const { workers, apps, defaultApp } = settings;
  rejectProblems(directoryProblems(settings));
  if (apps !== undefined) {
    return directoryOfFile(apps, logger);
  }
  // The default app of a pipeline whose workers register themselves is named before they do.
  const isRegistered = workers === undefined && defaultApp !== undefined && !(defaultApp in defaultWorkers);
  return isRegistered
    ? createAppDirectory({ apps: { [defaultApp]: {} }, defaultApp })
    : directoryOfTargets(workers ?? defaultWorkers, defaultApp);
}

/** What is wrong with the options of {@link directoryOf} together. */
export function directoryProblems({
  workers,
  apps,
  defaultApp,
}: OptionValues<typeof directoryOptions>): readonly SettingProblem[] {
  return problemsOf([
    [
      apps !== undefined && (workers !== undefined || defaultApp !== undefined),
      "--apps",
      "excludes --worker and --default-app: put the workers and the default app in its file",
      "leave out --apps, or --worker and --default-app",
    ],
  ]);
}

/** A single worker is the default. */
function directoryOfTargets(workers: Readonly<Record<string, string>>, defaultApp: string | undefined): AppDirectory {
  const appIds = Object.keys(workers);
  const chosen = defaultApp ?? (appIds.length === 1 ? appIds[0] : undefined);
  const apps = Object.fromEntries(Object.entries(workers).map(([appId, target]) => [appId, { target }]));
  try {
    return createAppDirectory({ apps, defaultApp: chosen });
  } catch (error) {
    throw usageError(`--worker and --default-app: ${messageOf(error)}`);
  }
}

/** Reads a directory from a file. @throws CliError that names the file and what is wrong. */
export function directoryOfFile(file: string, logger: Pick<Logger, "error" | "warn">): AppDirectory {
  const read = (): AppDirectory => {
    try {
      return reloadAppsFile(file, { onRejected: logRejectedFile(logger) });
    } catch (error) {
      throw new CliError(messageOf(error), { cause: error });
    }
  };
  const directory = read();
  const warn = () => {
    for (const appId of directory.appIds) {
      const { security } = directory.lookUp(appId);
      if (security?.keyFile !== undefined && security.tls === undefined) {
        logger.warn({ app: appId }, "the key for this app is sent in cleartext");
      }
    }
  };
  warn();
  directory.onChange(warn);
  return directory;
}
