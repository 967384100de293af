import type { TestContext } from "node:test";
import { pino } from "pino";
import type { ServeOptions } from "../../../src/app/create-app.js";
import { createOpenAiFront } from "../../../src/fronts/openai/front.js";
import type { ImageStore } from "../../../src/image/image-store.js";
import { createAppDirectory } from "../../../src/mesh/directory/app-directory.js";
import { createPipelineApp, type PipelineAppOptions, pipelineName } from "../../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import { createSpanCollector } from "../../../src/trace/telemetry/collectors.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../../src/worker/worker-app.js";
import { testTelemetry } from "../../support/telemetry.js";

/** App id of the only worker app. */
export const appId = "local/text-to-image-worker";

/** Options of {@link serveOpenAi}. */
export interface OpenAiServerOptions {
  /** @default a fake engine */
  readonly engine?: ManagedEngine;
  /** Ids of more apps of the same worker. */
  readonly otherApps?: readonly string[];
  readonly maxWaiting?: number;
  readonly store?: ImageStore;
  readonly pipeline?: Pick<PipelineAppOptions, "trustTraceparent" | "corsOrigins">;
  readonly serve?: Omit<ServeOptions, "port">;
}

/** A pipeline with OpenAI's API and its worker on ports of the loopback until the test ends. */
export async function serveOpenAi(t: TestContext, options: OpenAiServerOptions = {}) {
  const collector = createSpanCollector();
  const lines: string[] = [];
  const logger = pino({ level: "info" }, { write: (line) => void lines.push(line) });
  const engine = options.engine ?? createFakeEngine();
  const worker = await createWorkerApp({
    startEngine: async () => engine,
    maxWaiting: options.maxWaiting,
    telemetry: testTelemetry(t, workerName, { collector }),
    logger,
  }).serve({ port: 0 });
  collector.clear();
  const app = { target: `127.0.0.1:${worker.port}` };
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({
      apps: Object.fromEntries([appId, ...(options.otherApps ?? [])].map((id) => [id, app])),
      defaultApp: appId,
    }),
    store: options.store,
    fronts: [createOpenAiFront()],
    telemetry: testTelemetry(t, pipelineName, { collector }),
    logger,
    ...options.pipeline,
  }).serve({ port: 0, ...options.serve });
  t.after(async () => {
    await pipeline.stop({ graceMs: 0 });
    await worker.stop({ graceMs: 0 });
  });
  const post = (body: unknown, init: RequestInit = {}) =>
    fetch(`${pipeline.url}/v1/images/generations`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
      ...init,
    });
  return { url: pipeline.url, post, collector, lines };
}
