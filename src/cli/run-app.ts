/**
 * Runs an app as a process of its own, configured by environment variables.
 *
 * @module run
 */
import type { Logger } from "pino";
import { createAppClients } from "../app/app-clients.js";
import type { AppHost } from "../app/app-host.js";
import type { App } from "../app/create-app.js";
import { logRejectedFile } from "../app/observe.js";
import { appIdPattern } from "../mesh/app-id.js";
import { createAppConnector } from "../mesh/directory/app-connector.js";
import { type AppDirectory, createAppDirectory } from "../mesh/directory/app-directory.js";
import { notFound } from "../mesh/errors/errors.js";
import type { CommandContext } from "./command.js";
import { messageOf, usageError } from "./errors.js";
import { appOptions } from "./options/command-options.js";
import { warnOfUnknownVariables } from "./options/known-variables.js";
import { type OptionValues, parseOptions } from "./options/option.js";
import { directoryOfFile } from "./services/directory.js";
import { endProcess, exitCodeOfFailure, listenToEndingSignals } from "./services/lifecycle.js";
import { exemptLoopbackFromProxies } from "./services/proxies.js";
import { runService } from "./services/run-service.js";
import { workerSecurityOf } from "./services/security.js";
import { observeService, serveApp } from "./services/serve-app.js";

/** Options of {@link runApp}. */
export interface RunAppOptions {
  /** Name in logs and traces, such as `upscaler`: the app's own. */
  readonly name: string;
  /** App id, such as `local/upscaler`: a caller needs it in `apps:` of the callers file. */
  readonly app: string;
  /** TCP port unless `THROUGHLINE_PORT` is set; 0 takes a free one. */
  readonly port: number;
  /** Creates the app with the logger, telemetry and clients of this process. */
  readonly create: (host: AppHost) => App | Promise<App>;
}

/**
 * Runs an app as this process until SIGTERM or another ending signal, and exits.
 *
 * Variables, with the meaning that they have for the built-in apps: `THROUGHLINE_HOST`, `_PORT`, `_METRICS_PORT` (Prometheus), `_APPS` (app
 * ids and targets that the app may call) or `_APPS_FILE` (with policies and credentials), `_WORKER_TLS_…` and `_WORKER_KEY_FILE` (credentials
 * for them), `_TLS_CERT`, `_TLS_KEY`, `_TLS_CLIENT_CA`, `_CALLERS`, `_INSECURE_OPEN`, `_REFLECTION`, `_GRACE`, `_LOG_LEVEL`, `_LOG_FORMAT`, and those of
 * OpenTelemetry.
 *
 * stdout gets one line when the app is ready, stderr JSON lines. The first signal drains the app, and the exit code is 0; a second one exits
 * at once (143, 130). The exit code is 1 when the start fails and 2 when a variable is wrong, with a line on stderr.
 */
export async function runApp(options: RunAppOptions): Promise<never> {
  exemptLoopbackFromProxies(process.env);
  const interrupt = listenToEndingSignals();
  // The reader of the output may leave early; the app goes on.
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
  const { env: environment, stdout, stderr } = process;
  const context = { environment, stdout, stderr, interrupt, supervisor: undefined };
  const exitCode = await runInContext(options, context).catch((error: unknown) => {
    if (error !== interrupt.reason) {
      stderr.write(`${options.name}: ${messageOf(error)}\n`);
    }
    return exitCodeOfFailure(error);
  });
  return endProcess(exitCode);
}

async function runInContext(options: RunAppOptions, context: CommandContext): Promise<number> {
  const { name, app: appId, port: defaultPort, create } = options;
  if (!appIdPattern.test(appId)) {
    throw new Error(`app id "${appId}" is not of the form owner/name`);
  }
  const settings = parseOptions(appOptions(defaultPort));
  warnOfUnknownVariables(context);
  const { logger, telemetry } = observeService(name, settings, context);
  const directory = directoryOf(settings, logger);
  const security = workerSecurityOf(settings, logger);
  const connect = createAppConnector({ security, onRejected: logRejectedFile(logger) });
  const apps = createAppClients({ directory, connect, telemetry });
  return runService(
    {
      name,
      portSetting: "THROUGHLINE_PORT",
      async start() {
        return serveApp(await create({ apps, telemetry, logger }), { settings, appId, telemetry, logger });
      },
      async finish() {
        apps.close();
        await telemetry.shutdown();
      },
    },
    context,
  );
}

/** The apps that this app may call; there may be none. */
function directoryOf(
  { apps = {}, appsFile }: OptionValues<ReturnType<typeof appOptions>>,
  logger: Logger,
): AppDirectory {
  const entries = Object.entries(apps);
  if (appsFile !== undefined) {
    if (entries.length > 0) {
      throw usageError("THROUGHLINE_APPS_FILE and THROUGHLINE_APPS exclude each other: set one of them");
    }
    return directoryOfFile(appsFile, logger);
  }
  if (entries.length === 0) {
    const reject = () => {
      throw notFound("this app has no other apps: set THROUGHLINE_APPS or THROUGHLINE_APPS_FILE");
    };
    return { appIds: [], defaultApp: undefined, lookUp: reject, onChange() {} };
  }
  try {
    return createAppDirectory({ apps: Object.fromEntries(entries.map(([appId, target]) => [appId, { target }])) });
  } catch (error) {
    throw usageError(`THROUGHLINE_APPS: ${messageOf(error)}`);
  }
}
