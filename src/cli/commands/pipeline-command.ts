import { createPipelineApp, pipelineName } from "../../pipeline/pipeline-app.js";
import type { CommandContext } from "../command-context.js";
import { runService } from "../process/run-service.js";
import { directoryOf } from "../service/directory-of.js";
import { imageStoreOf } from "../service/image-store-of.js";
import { observeService } from "../service/observe-service.js";
import { protectionOf } from "../service/protection-of.js";
import { workerSecurityOf } from "../service/worker-security.js";
import type { pipelineSettings } from "../settings/pipeline-settings.js";
import type { SettingsOf } from "../settings/setting.js";

type PipelineSettings = SettingsOf<typeof pipelineSettings>;

/** Runs ImagePipeline until a signal ends it. */
export async function runPipeline(settings: PipelineSettings, context: CommandContext): Promise<number> {
  const { host, port, publicUrl, trustTraceparent, showApps, corsOrigins, reflection, grace, logLevel } = settings;
  const { logger, telemetry } = observeService(pipelineName, logLevel, context);
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
