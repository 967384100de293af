import type { DescService } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import type { AppHost } from "../app/app-host.js";
import type { App } from "../app/create-app.js";
import { observe } from "../app/observe.js";
import { createPipelineClient, createWorkerClient } from "../client/client.js";
import type { ImagePipelineService } from "../gen/throughline/v1/pipeline_pb.js";
import type { TextToImageWorkerService } from "../gen/throughline/v1/worker_pb.js";
import type { ImageStore } from "../image/image-store.js";
import { createAppDirectory } from "../mesh/directory/app-directory.js";
import { createPipelineApp, pipelineName } from "../pipeline/pipeline-app.js";
import type { SpanRecord } from "../trace/span-record.js";
import { createMetricCollector, createSpanCollector, type MetricPoint } from "../trace/telemetry/collectors.js";
import { defaultAppId } from "../worker/default-app-id.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../worker/worker-app.js";
import { createFakeEngine } from "./fake-engine.js";
import { startOwnApps } from "./own-apps.js";
import { connectInMemory, startApp, type Wire } from "./start-app.js";

/** How a test mesh is made. */
export interface TestMeshOptions {
  /**
   * `memory`: both services are called in memory, over the Connect protocol. `port`: both listen on free ports of the loopback, and the
   * pipeline calls the worker over a gRPC channel, as in production. @default "memory"
   */
  readonly wire?: Wire | undefined;
  /** Who generates; the mesh closes it. @default a fake engine, which generates a pattern at once */
  readonly engine?: ManagedEngine | undefined;
  /** The worker's app id, and the pipeline's default app. @default local/text-to-image-worker */
  readonly appId?: string | undefined;
  /** Where the pipeline keeps images. Absent: `data:` URIs. */
  readonly store?: ImageStore | undefined;
  /** Requests that may wait at the worker. @default 16 */
  readonly maxWaiting?: number | undefined;
  /** Whether callers' `traceparent` headers become parents; else they are linked by the pipeline. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /**
   * Apps of your own by app id. Each may call the worker, the pipeline, which is `local/image-pipeline`, and those before it; its
   * `service.name` is the name in its id. @default none
   */
  readonly apps?: Readonly<Record<string, (host: AppHost) => App | Promise<App>>> | undefined;
  /** What the services see of the environment: `ENABLE_TRACING`, `OTEL_TRACES_SAMPLER`, …. @default nothing */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Told each line of the services' logs, as JSON. @default they are dropped */
  readonly onLog?: ((line: string) => void) | undefined;
}

/** Both services and your own apps in one process, with typed clients and the spans of all. */
export interface TestMesh {
  readonly pipeline: Client<typeof ImagePipelineService>;
  readonly worker: Client<typeof TextToImageWorkerService>;
  /**
   * A typed client of an app of your own.
   *
   * @throws Error where the mesh has no such app.
   */
  app<Service extends DescService>(appId: string, service: Service): Client<Service>;
  /** Base URL of the pipeline; only with `wire: "port"`. */
  readonly pipelineUrl: string;
  /** Base URL of the worker; only with `wire: "port"`. */
  readonly workerUrl: string;
  /** Finished spans of both services, in the order of their ends. */
  spans(): SpanRecord[];
  /** What all services have measured so far, a point for each series; while the mesh runs. */
  metrics(): Promise<MetricPoint[]>;
  /**
   * The spans of one trace, as soon as there are that many.
   *
   * @throws Error when they do not come within 5 s.
   */
  waitForTrace(traceId: string, count: number): Promise<SpanRecord[]>;
  /** Ends the worker alone, at once: what a crash or a scale-down looks like to the pipeline. */
  stopWorker(): Promise<void>;
  /** Ends both services. What still runs is cancelled. */
  stop(): Promise<void>;
}

const waitMs = 5_000;

/** App id under which apps of your own call the pipeline. */
const pipelineAppId = "local/image-pipeline";

/**
 * Starts an ImagePipeline and a TextToImageWorker in this process, for integration tests. Each has its own tracer provider, so that
 * their spans tell the services apart; all spans are sampled and kept in memory. Always `stop()` it.
 *
 * @example
 * const mesh = await createTestMesh();
 * const { image, traceId } = await mesh.pipeline.generate({ prompt: "a red heart" });
 * const spans = await mesh.waitForTrace(traceId, 6);
 * await mesh.stop();
 */
export async function createTestMesh(options: TestMeshOptions = {}): Promise<TestMesh> {
  const { engine = createFakeEngine(), appId = defaultAppId, environment = {} } = options;
  const collector = createSpanCollector();
  const measured = createMetricCollector();
  const observed = (serviceName: string) =>
    observe({
      serviceName,
      environment,
      level: options.onLog ? "trace" : "silent",
      write: (line) => options.onLog?.(line),
      exporters: [collector.exporter],
      metricReaders: [measured.reader()],
    });

  const ofWorker = observed(workerName);
  const worker = await startApp(
    createWorkerApp({
      startEngine: async () => engine,
      maxWaiting: options.maxWaiting,
      trustTraceparent: options.trustTraceparent,
      ...ofWorker,
    }),
    options.wire,
  );
  // The start-up's trace is nobody's request.
  collector.clear();

  const ofPipeline = observed(pipelineName);
  const pipeline = await startApp(
    createPipelineApp({
      directory: createAppDirectory({ apps: { [appId]: { target: worker.target } }, defaultApp: appId }),
      ...(options.wire !== "port" && { connect: (_entry, interceptors) => connectInMemory(worker, interceptors) }),
      store: options.store,
      trustTraceparent: options.trustTraceparent,
      ...ofPipeline,
    }),
    options.wire,
  );

  const own = await startOwnApps({
    apps: options.apps ?? {},
    known: { [appId]: worker, [pipelineAppId]: pipeline },
    wire: options.wire,
    observed,
  });

  const spansOf = (traceId: string, spans: readonly SpanRecord[]) => spans.filter((span) => span.traceId === traceId);
  return {
    pipeline: createPipelineClient({ transport: pipeline.transport }),
    worker: createWorkerClient({ transport: worker.transport }),
    app: own.client,
    pipelineUrl: pipeline.url,
    workerUrl: worker.url,
    spans: () => collector.spans(),
    metrics: measured.read,
    async waitForTrace(traceId, count) {
      const enough = (spans: readonly SpanRecord[]) => spansOf(traceId, spans).length >= count;
      return spansOf(traceId, await collector.waitFor(enough, AbortSignal.timeout(waitMs)));
    },
    stopWorker: worker.end,
    async stop() {
      await own.stop();
      await pipeline.stop();
      await worker.stop();
      await Promise.all([ofPipeline.telemetry.shutdown(), ofWorker.telemetry.shutdown()]);
    },
  };
}
