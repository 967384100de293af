import { type AppDirectory, createAppDirectory } from "../mesh/app-directory.js";
import { createPipelineApp, pipelineName } from "../pipeline/pipeline-app.js";
import type { CommandContext } from "./command-context.js";
import { usageError } from "./command-error.js";
import { createLogger } from "./create-logger.js";
import { imageStoreOf } from "./image-store-of.js";
import type { pipelineSettings } from "./pipeline-settings.js";
import { protectionOf } from "./protection-of.js";
import { runService } from "./run-service.js";
import { createServiceTelemetry } from "./service-telemetry.js";
import type { SettingsOf } from "./setting.js";
import { workerSecurityOf } from "./worker-security.js";

type PipelineSettings = SettingsOf<typeof pipelineSettings>;

/** Runs ImagePipeline until a signal ends it. */
export async function runPipeline(settings: PipelineSettings, context: CommandContext): Promise<number> {
  const { host, port, publicUrl, trustTraceparent, corsOrigins, reflection, grace, logLevel } = settings;
  const directory = directoryOf(settings);
  const logger = createLogger(pipelineName, logLevel, context.stderr);
  const telemetry = createServiceTelemetry(pipelineName, context.environment, logger);
  return runService(
    {
      name: pipelineName,
      async start() {
        const app = createPipelineApp({
          directory,
          workerSecurity: workerSecurityOf(settings, logger),
          store: await imageStoreOf(settings, logger),
          publicUrl,
          corsOrigins,
          trustTraceparent,
          telemetry,
          logger,
        });
        const running = await app.serve({ host, port, reflection, ...protectionOf(settings, logger) });
        return { url: running.url, stop: () => running.stop({ graceMs: grace * 1000 }) };
      },
      finish: () => telemetry.shutdown(),
    },
    context,
  );
}

/** The directory of the worker apps; with one worker alone, that one is the default. */
function directoryOf({ workers, defaultApp }: PipelineSettings): AppDirectory {
  const appIds = Object.keys(workers);
  const chosen = defaultApp ?? (appIds.length === 1 ? appIds[0] : undefined);
  const apps = Object.fromEntries(Object.entries(workers).map(([appId, target]) => [appId, { target }]));
  try {
    return createAppDirectory({ apps, ...(chosen !== undefined && { defaultApp: chosen }) });
  } catch (error) {
    throw usageError(`--worker and --default-app do not fit: ${error instanceof Error ? error.message : error}`);
  }
}
