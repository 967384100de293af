import { pino } from "pino";
import { createPipelineClient } from "../../src/client/client.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import type { PoliciesInput } from "../../src/mesh/grpc/policies.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../src/worker/worker-app.js";
import { openStockTransport } from "./stock-transport.js";
import { type TestEnd, testTelemetry } from "./telemetry.js";

/** Options of {@link startFleet}. */
export interface FleetOptions {
  /** One worker an engine. */
  readonly engines: readonly ManagedEngine[];
  /** The workers' ports. @default free ones */
  readonly ports?: readonly number[];
  /** @default 1 */
  readonly pipelines?: number;
  readonly maxWaiting?: number;
  readonly policies?: PoliciesInput;
}

const appId = "local/text-to-image-worker";

/** Pipelines and several workers of one app on ports of the loopback, and the spans of all, until the test ends. */
export async function startFleet(t: TestEnd, { engines, ports, pipelines = 1, maxWaiting, policies }: FleetOptions) {
  const logger = pino({ level: "silent" });
  const collector = createSpanCollector();
  const workers = await Promise.all(
    engines.map((engine, worker) =>
      createWorkerApp({
        startEngine: async () => engine,
        maxWaiting,
        telemetry: testTelemetry(t, workerName, { collector }),
        logger,
      }).serve({ port: ports?.[worker] ?? 0 }),
    ),
  );
  collector.clear();
  const target = `ipv4:${workers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  const clients = await Promise.all(
    Array.from({ length: pipelines }, async () => {
      const pipeline = await createPipelineApp({
        directory: createAppDirectory({ apps: { [appId]: { target, policies } }, defaultApp: appId }),
        telemetry: testTelemetry(t, pipelineName, { collector }),
        logger,
      }).serve({ port: 0 });
      const { transport, close } = openStockTransport(pipeline.port);
      t.after(() => {
        close();
        return pipeline.stop({ graceMs: 0 });
      });
      return createPipelineClient({ transport });
    }),
  );
  t.after(() => Promise.all(workers.map((worker) => worker.stop({ graceMs: 0 }))));
  const [client] = clients;
  if (client === undefined) {
    throw new RangeError("a fleet needs a pipeline");
  }
  return { client, clients, workers, collector };
}
