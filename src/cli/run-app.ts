/**
 * What `throughline/run` offers: an app as a process of its own, set up by its environment.
 *
 * @module run
 */
import type { Logger } from "pino";
import { createAppClients } from "../app/app-clients.js";
import type { AppHost } from "../app/app-host.js";
import type { App } from "../app/create-app.js";
import { logRefusedFile } from "../app/observe.js";
import { appIdPattern } from "../mesh/app-id.js";
import { createAppConnector } from "../mesh/directory/app-connector.js";
import { type AppDirectory, createAppDirectory } from "../mesh/directory/app-directory.js";
import { notFound } from "../mesh/errors/errors.js";
import type { CommandContext } from "./command-context.js";
import { usageError } from "./command-error.js";
import { exemptLoopbackFromProxies } from "./network/proxy-environment.js";
import { endProcess, exitCodeOfFailure } from "./process/end-process.js";
import { listenToEndingSignals } from "./process/process-signals.js";
import { runService } from "./process/run-service.js";
import { directoryOfFile } from "./service/directory-of.js";
import { observeService } from "./service/observe-service.js";
import { serveApp } from "./service/serve-app.js";
import { workerSecurityOf } from "./service/worker-security.js";
import { type AppSettings, readAppSettings } from "./settings/app-settings.js";

/** What {@link runApp} runs. */
export interface RunAppOptions {
  /** Name in logs and traces, such as `upscaler`: the app's own. */
  readonly name: string;
  /** App id, such as `local/upscaler`: what `apps:` of the file of callers has to name before a caller gets in. */
  readonly app: string;
  /** TCP port where `THROUGHLINE_PORT` says none; 0 takes a free one. */
  readonly port: number;
  /** Makes the app of what this process has for it. */
  readonly create: (host: AppHost) => App | Promise<App>;
}

/**
 * Runs an app as this process, as the environment says: `THROUGHLINE_HOST` and `_PORT`; `_METRICS_PORT` (where
 * Prometheus finds metrics); `_APPS` (app ids and targets of the apps that it may call) or `_APPS_FILE` (which has their policies and credentials too); `_WORKER_TLS_…` and `_WORKER_KEY_FILE` (how it shows itself to them);
 * `_TLS_CERT`, `_TLS_KEY`, `_TLS_CLIENT_CA`, `_CALLERS`, `_INSECURE_OPEN` and `_REFLECTION`; `_GRACE` and `_LOG_LEVEL`; and OpenTelemetry's
 * variables. All mean what they mean for the built-in apps. It says on stdout when it is ready, logs JSON lines on stderr, drains at the
 * first SIGTERM or SIGINT and then ends the process with exit code 0; a second signal ends it at once (143, 130). A start that fails is one
 * line on stderr and exit code 1, a variable that makes no sense likewise and 2.
 */
export async function runApp(options: RunAppOptions): Promise<never> {
  exemptLoopbackFromProxies(process.env);
  const interrupt = listenToEndingSignals();
  // Whoever reads the output may leave early; the app serves on.
  process.stdout.on("error", () => {});
  process.stderr.on("error", () => {});
  const { env: environment, stdout, stderr } = process;
  const context = { environment, stdout, stderr, interrupt, supervisor: undefined };
  const exitCode = await runInContext(options, context).catch((error: unknown) => {
    if (error !== interrupt.reason) {
      stderr.write(`${options.name}: ${error instanceof Error ? error.message : error}\n`);
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
  const settings = readAppSettings(context.environment, defaultPort);
  const { logger, telemetry } = observeService(name, settings.logLevel, context, settings.metricsPort);
  const directory = directoryOf(settings, logger);
  const security = workerSecurityOf(settings, logger);
  const connect = createAppConnector({ security, onRefused: logRefusedFile(logger) });
  const apps = createAppClients({ directory, connect, telemetry });
  return runService(
    {
      name,
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

/** The apps that may be called, which may be none. */
function directoryOf({ apps = {}, appsFile }: AppSettings, logger: Logger): AppDirectory {
  const entries = Object.entries(apps);
  if (appsFile !== undefined) {
    if (entries.length > 0) {
      throw usageError("THROUGHLINE_APPS_FILE says all: THROUGHLINE_APPS does not go with it");
    }
    return directoryOfFile(appsFile, logger);
  }
  if (entries.length === 0) {
    const refuse = () => {
      throw notFound("this app knows no other apps: THROUGHLINE_APPS or THROUGHLINE_APPS_FILE names them");
    };
    return { appIds: [], defaultApp: undefined, lookUp: refuse, onChange() {} };
  }
  try {
    return createAppDirectory({ apps: Object.fromEntries(entries.map(([appId, target]) => [appId, { target }])) });
  } catch (error) {
    throw usageError(`THROUGHLINE_APPS: ${error instanceof Error ? error.message : error}`);
  }
}
