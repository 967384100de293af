import type { Logger } from "pino";
import { createEngineHost } from "../../worker/engine-host.js";
import { createWorkerApp, workerName } from "../../worker/worker-app.js";
import type { CommandContext } from "../command.js";
import type { workerOptions } from "../options/command-options.js";
import type { OptionValues } from "../options/option.js";
import { bucketOf, imageStoreOf } from "../services/image-stores.js";
import { findLoras } from "../services/loras.js";
import { findModel, showDownload, threadsOf } from "../services/model.js";
import { registrarOf } from "../services/registry.js";
import { runService } from "../services/run-service.js";
import { observeService, serveApp } from "../services/serve-app.js";
import { createProgress } from "../terminal/progress.js";
import { isInteractive } from "../terminal/terminal.js";

/** Runs TextToImageWorker until a signal ends it. */
export async function runWorker(
  settings: OptionValues<typeof workerOptions>,
  context: CommandContext,
): Promise<number> {
  const { app: appId, precision } = settings;
  const threads = await threadsOf(settings.threads);
  const { maxWaiting, publicUrl, trustTraceparent, genaiAttributes, imageMetadata, engineMemory, engineStall } =
    settings;
  const observed = observeService(workerName, settings, context);
  const { telemetry } = observed;
  const logger = observed.logger.child({ app: appId });
  return runService(
    {
      name: appId,
      portSetting: "--worker-port",
      async start() {
        const register = registrarOf(settings, { appId, host: settings.host, logger });
        let device: string | undefined;
        const loras = await findLoras(settings);
        const worker = createWorkerApp({
          async startEngine() {
            const engine = await createEngineHost({
              modelFolder: await fetchedModel(settings.model, context, logger),
              device: settings.device,
              precision,
              loras,
              threads,
              maxMemoryBytes: engineMemory > 0 ? engineMemory * 2 ** 20 : undefined,
              stallMs: engineStall * 1000,
              logger,
              signal: context.interrupt,
            });
            device = engine.info.executionProvider;
            return engine;
          },
          store: await imageStoreOf(settings, await bucketOf(settings, context.environment), logger),
          publicUrl,
          maxWaiting,
          trustTraceparent,
          genaiAttributes,
          imageMetadata,
          telemetry,
          logger,
        });
        const served = await serveApp(worker, { settings, appId, telemetry, logger });
        const registrar = register?.(served.port);
        return {
          ...served,
          device,
          async stop() {
            // First, so that the pipelines send no more calls.
            await registrar?.end();
            await served.stop();
          },
        };
      },
      finish: () => telemetry.shutdown(),
    },
    context,
  );
}

/** Downloads the model and returns its folder. The progress is a bar on a terminal, else log lines. */
async function fetchedModel(model: string | undefined, context: CommandContext, logger: Logger): Promise<string> {
  if (!isInteractive(context.stderr, context.environment)) {
    return findModel(
      model,
      context,
      showDownload({ phase: (message) => logger.info({ model }, message), step() {} }, false),
    );
  }
  const progress = createProgress(context, false);
  try {
    return await findModel(model, context, showDownload(progress, true));
  } finally {
    progress.end();
  }
}
