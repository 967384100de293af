import type { Logger } from "pino";
import { createEngineHost } from "../../worker/engine-host.js";
import { createWorkerApp, workerName } from "../../worker/worker-app.js";
import type { CommandContext } from "../command-context.js";
import { runService } from "../process/run-service.js";
import { findModel, showDownload } from "../service/find-model.js";
import { imageStoreOf } from "../service/image-store-of.js";
import { observeService } from "../service/observe-service.js";
import { serveApp } from "../service/serve-app.js";
import type { SettingsOf } from "../settings/setting.js";
import type { workerSettings } from "../settings/worker-settings.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive } from "../terminal/terminal.js";

/** Runs TextToImageWorker until a signal ends it. */
export async function runWorker(settings: SettingsOf<typeof workerSettings>, context: CommandContext): Promise<number> {
  const { app: appId, device, precision, threads } = settings;
  const { maxWaiting, publicUrl, trustTraceparent, engineMemory, engineStall } = settings;
  const observed = observeService(workerName, settings.logLevel, context, settings.metricsPort);
  const { telemetry } = observed;
  const logger = observed.logger.child({ app: appId });
  return runService(
    {
      name: appId,
      async start() {
        const worker = createWorkerApp({
          startEngine: async () =>
            createEngineHost({
              modelFolder: await fetchedModel(settings.model, context, logger),
              device,
              precision,
              ...(threads > 0 && { threads }),
              ...(engineMemory > 0 && { maxMemoryBytes: engineMemory * 2 ** 20 }),
              stallMs: engineStall * 1000,
              logger,
              signal: context.interrupt,
            }),
          store: await imageStoreOf(settings, logger),
          publicUrl,
          maxWaiting,
          trustTraceparent,
          telemetry,
          logger,
        });
        return serveApp(worker, { settings, appId, telemetry, logger });
      },
      finish: () => telemetry.shutdown(),
    },
    context,
  );
}

/** The model's folder. A person at a terminal sees a bar while it is fetched; else the log has it. */
async function fetchedModel(model: string | undefined, context: CommandContext, logger: Logger): Promise<string> {
  if (!isInteractive(context.stderr, context.environment)) {
    return findModel(
      model,
      context,
      showDownload({ phase: (words) => logger.info({ model }, words), step() {} }, false),
    );
  }
  const progress = createProgress(context, false);
  try {
    return await findModel(model, context, showDownload(progress, true));
  } finally {
    progress.end();
  }
}
