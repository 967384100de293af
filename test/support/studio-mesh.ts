import type { TestContext } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { pino } from "pino";
import type { App, ServeOptions } from "../../src/app/create-app.js";
import { createPipelineClient } from "../../src/client/client.js";
import { StudioService } from "../../src/gen/throughline/studio/v1/studio_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createPipelineApp } from "../../src/pipeline/pipeline-app.js";
import { createCollector } from "../../src/studio/collector.js";
import { createRequestReporter, createRunningRequests } from "../../src/studio/running-requests.js";
import { createCollectorClient, studioRelayRoutes } from "../../src/studio/studio-relay.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createWorkerApp, type ManagedEngine } from "../../src/worker/worker-app.js";
import { createWatchedStore } from "./watched-store.js";

export interface StudioMeshOptions {
  readonly engine?: ManagedEngine;
  /** More options for serving the pipeline. */
  readonly serve?: Partial<ServeOptions>;
}

/** What `throughline dev` starts, in one process: a collector, a worker and a pipeline with its studio, each on a port of its own. */
export async function startStudioMesh(t: TestContext, options: StudioMeshOptions = {}) {
  const logger = pino({ level: "silent" });
  const store = createWatchedStore();
  const { routes, interceptors, httpHandler } = createCollector({ store });
  const collector = await listen({
    port: 0,
    handler: createConnectHandler({ routes, interceptors, fallback: httpHandler }),
  });
  const stopCollector = () => collector.stop({ graceMs: 0 });
  t.after(stopCollector);
  const environment = {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    OTEL_BSP_SCHEDULE_DELAY: "50",
    OTEL_METRICS_EXPORTER: "none",
    THROUGHLINE_RUNNING_SPANS: "true",
  };
  const telemetryOf = (serviceName: string) => createTelemetry({ serviceName, environment, log: logger });
  const serve = async (app: App, serveOptions: Partial<ServeOptions> = {}) => {
    const running = await app.serve({ port: 0, ...serveOptions });
    t.after(() => running.stop({ graceMs: 0 }));
    return running;
  };
  const worker = await serve(
    createWorkerApp({
      startEngine: async () => options.engine ?? createFakeEngine(),
      telemetry: telemetryOf("text-to-image-worker"),
      logger,
    }),
  );
  const requests = createRunningRequests();
  const directory = createAppDirectory({
    apps: { "acme/other": { target: "localhost:1" }, "acme/worker": { target: `127.0.0.1:${worker.port}` } },
    defaultApp: "acme/worker",
  });
  const client = createCollectorClient(collector.url);
  const ending = new AbortController();
  const away: string[] = [];
  const pipeline = await serve(
    createPipelineApp({
      directory,
      extensions: [
        () => ({
          services: [StudioService],
          interceptors: [createRequestReporter(requests)],
          routes: studioRelayRoutes({
            collector: client.studio,
            directory,
            watchRequests: requests.watch,
            traceUrlTemplate: "http://localhost:16686/trace/{traceId}",
            traceBackend: "Jaeger",
            ending: ending.signal,
            onCollectorAway: (error) => void away.push(error.rawMessage),
          }),
          httpRoute: () => false,
          end() {
            ending.abort();
            client.close();
          },
        }),
      ],
      telemetry: telemetryOf("image-pipeline"),
      logger,
    }),
    options.serve,
  );
  const transport = createConnectTransport({ baseUrl: pipeline.url, httpVersion: "1.1" });
  return {
    store,
    requests,
    pipeline,
    /** Why the collector was away, each time. */
    away,
    stopCollector,
    client: createPipelineClient({ transport }),
    studio: createClient(StudioService, transport),
  };
}
