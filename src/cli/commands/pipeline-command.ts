import { createPipelineApp, pipelineName } from "../../pipeline/pipeline-app.js";
import type { CommandContext } from "../command-context.js";
import { runService } from "../process/run-service.js";
import { directoryOf } from "../service/directory-of.js";
import { hostCheckOf } from "../service/host-check-of.js";
import { imageStoreOf } from "../service/image-store-of.js";
import { observeService } from "../service/observe-service.js";
import { serveApp } from "../service/serve-app.js";
import { studioOf } from "../service/studio-of.js";
import { workerSecurityOf } from "../service/worker-security.js";
import type { pipelineSettings } from "../settings/pipeline-settings.js";
import type { SettingsOf } from "../settings/setting.js";

type PipelineSettings = SettingsOf<typeof pipelineSettings>;

/** Runs ImagePipeline until a signal ends it. */
export async function runPipeline(settings: PipelineSettings, context: CommandContext): Promise<number> {
  const { publicUrl, trustTraceparent, showApps, corsOrigins, logLevel, metricsPort } = settings;
  const { logger, telemetry } = observeService(pipelineName, logLevel, context, metricsPort);
  const directory = directoryOf(settings, logger);
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
          showApps,
          extension: await studioOf(settings, { directory, hosts: hostCheckOf(settings), logger }),
          telemetry,
          logger,
        });
        return serveApp(app, { settings, telemetry, logger });
      },
      finish: () => telemetry.shutdown(),
    },
    context,
  );
}
