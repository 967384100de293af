import { pino } from "pino";
import type { App } from "throughline/app";
import {
  createAppDirectory,
  createDirectoryStore,
  createPipelineApp,
  createTelemetry,
  createWorkerApp,
  defaultAppId,
  type Environment,
  type ManagedEngine,
  pipelineName,
  workerName,
} from "throughline/server";

const logger = pino({ level: "silent" });

/** Both services in one program, on free ports of the loopback. */
export async function serveBoth(engine: ManagedEngine, pictures: string) {
  const environment: Environment = {};
  const telemetryOf = (serviceName: string) => createTelemetry({ serviceName, environment, log: logger });
  const workerApp: App = createWorkerApp({
    startEngine: async () => engine,
    telemetry: telemetryOf(workerName),
    logger,
  });
  const worker = await workerApp.serve({ port: 0 });
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({
      apps: { [defaultAppId]: { target: `127.0.0.1:${worker.port}`, policies: { retry: { maxAttempts: 2 } } } },
      defaultApp: defaultAppId,
    }),
    store: await createDirectoryStore({ directory: pictures }),
    telemetry: telemetryOf(pipelineName),
    logger,
  }).serve({ port: 0 });
  return {
    url: pipeline.url,
    async stop() {
      await pipeline.stop();
      await worker.stop();
    },
  };
}
