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

/** Options of {@link createTestMesh}. */
export interface TestMeshOptions {
  /**
   * `memory`: calls both services in memory, over the Connect protocol. `port`: both listen on free loopback ports, and the pipeline
   * calls the worker over a gRPC channel, as in production. @default "memory"
   */
  readonly wire?: Wire | undefined;
  /** Engine of the worker; the mesh closes it. @default a fake engine, which generates a pattern at once */
  readonly engine?: ManagedEngine | undefined;
  /** The worker's app id, and the pipeline's default app. @default local/text-to-image-worker */
  readonly appId?: string | undefined;
  /** Image store of the pipeline. @default none, images are `data:` URIs */
  readonly store?: ImageStore | undefined;
  /** Queue capacity of the worker, in requests. @default that of `--max-waiting` */
  readonly maxWaiting?: number | undefined;
  /** Uses callers' `traceparent` headers as parents; otherwise the pipeline links to them. @default false */
  readonly trustTraceparent?: boolean | undefined;
  /** Adds attributes of OpenTelemetry's GenAI conventions to `inference`. @default false */
  readonly genaiAttributes?: boolean | undefined;
  /** Writes the prompt and the settings into PNG images. @default false */
  readonly imageMetadata?: boolean | undefined;
  /**
   * Your own apps by app id. Each can call the worker, the pipeline (`local/image-pipeline`) and the apps before it. Its `service.name`
   * is the name in its app id. @default none
   */
  readonly apps?: Readonly<Record<string, (host: AppHost) => App | Promise<App>>> | undefined;
  /** Environment variables of the services, such as `ENABLE_TRACING` or `OTEL_TRACES_SAMPLER`. @default none */
  readonly environment?: Readonly<Record<string, string | undefined>> | undefined;
  /** Receives each log line of the services, as JSON. @default lines are dropped */
  readonly onLog?: ((line: string) => void) | undefined;
}

/** Both services and your own apps in one process, with typed clients and collected spans. */
export interface TestMesh {
  readonly pipeline: Client<typeof ImagePipelineService>;
  readonly worker: Client<typeof TextToImageWorkerService>;
  /**
   * Creates a typed client of one of your own apps.
   *
   * @throws Error if the mesh has no such app.
   */
  app<Service extends DescService>(appId: string, service: Service): Client<Service>;
  /** Base URL of the pipeline; only with `wire: "port"`. */
  readonly pipelineUrl: string;
  /** Base URL of the worker; only with `wire: "port"`. */
  readonly workerUrl: string;
  /** Finished spans of all services, in the order of their ends. */
  spans(): SpanRecord[];
  /** Current metrics of all services, one point per series. Call it while the mesh runs. */
  metrics(): Promise<MetricPoint[]>;
  /**
   * Waits until a trace has at least `count` finished spans, and returns them.
   *
   * @throws Error after 5 s.
   */
  waitForTrace(traceId: string, count: number): Promise<SpanRecord[]>;
  /** Stops only the worker, at once. The pipeline sees it as a crash or a scale-down. */
  stopWorker(): Promise<void>;
  /** Stops all services. Cancels running calls. */
  stop(): Promise<void>;
}

const waitMs = 5_000;

/** App id of the pipeline for your own apps. */
const pipelineAppId = "local/image-pipeline";

/**
 * Starts an ImagePipeline and a TextToImageWorker in this process, for integration tests.
 *
 * Each service has its own tracer provider and `service.name`. All spans are sampled by default and kept in memory. Always call
 * `stop()`.
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
      genaiAttributes: options.genaiAttributes,
      imageMetadata: options.imageMetadata,
      ...ofWorker,
    }),
    options.wire,
  );
  // Remove the start-up's trace, which belongs to no request.
  collector.clear();

  const ofPipeline = observed(pipelineName);
  const pipeline = await startApp(
    createPipelineApp({
      directory: createAppDirectory({ apps: { [appId]: { target: worker.target } }, defaultApp: appId }),
      connect: options.wire === "port" ? undefined : (_entry, interceptors) => connectInMemory(worker, interceptors),
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
