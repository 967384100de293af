import type { App } from "throughline/app";
import {
  createAppDirectory,
  createDirectoryStore,
  createPipelineApp,
  createWorkerApp,
  defaultAppId,
  type ManagedEngine,
  type Observed,
  observe,
  pipelineName,
  workerName,
} from "throughline/server";

const observed = (serviceName: string): Observed =>
  observe({ serviceName, environment: {}, level: "silent", write: () => {} });

/** Both services in one program, on free ports of the loopback. */
export async function serveBoth(engine: ManagedEngine, images: string) {
  const workerApp: App = createWorkerApp({ startEngine: async () => engine, ...observed(workerName) });
  const worker = await workerApp.serve({ port: 0 });
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({
      apps: { [defaultAppId]: { target: `127.0.0.1:${worker.port}`, policies: { retry: { maxAttempts: 2 } } } },
      defaultApp: defaultAppId,
    }),
    store: await createDirectoryStore({ directory: images }),
    ...observed(pipelineName),
  }).serve({ port: 0 });
  return {
    url: pipeline.url,
    async stop() {
      await pipeline.stop();
      await worker.stop();
    },
  };
}
