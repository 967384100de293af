import assert from "node:assert/strict";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import type { PGlite } from "@electric-sql/pglite";
import type { ServeOptions } from "../../src/app/create-app.js";
import { observe } from "../../src/app/observe.js";
import { type Job, JobService } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { openJobDatabase } from "../../src/jobs/job-database.js";
import { createJobFolder } from "../../src/jobs/job-files.js";
import type { JobTrace } from "../../src/jobs/job-trace.js";
import { createJobs, type JobsOptions } from "../../src/jobs/jobs.js";
import { createPayloadCipher } from "../../src/jobs/payload-cipher.js";
import type { WaitingLimits } from "../../src/jobs/waiting-limits.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createPipelineApp, type PipelineAppOptions } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createMetricCollector, createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { createWorkerApp, type ManagedEngine } from "../../src/worker/worker-app.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createTestDatabase } from "./job-database.js";

/** App id of the workers. */
export const jobApp = "acme/worker";

/** Options of {@link startJobMesh}. */
export interface JobMeshOptions {
  /** One worker for each. @default one fake engine */
  readonly engines?: readonly ManagedEngine[];
  /** Where the jobs rest. @default a new PGlite in memory */
  readonly source?: string | PGlite;
  /** Folder of the images. @default a new one */
  readonly folder?: string;
  readonly keys?: readonly Uint8Array[];
  readonly limits?: WaitingLimits;
  readonly jobTrace?: JobTrace;
  readonly webhooks?: JobsOptions["webhooks"];
  /** @default true */
  readonly listsAnonymous?: boolean;
  readonly serve?: Partial<ServeOptions>;
  readonly pipeline?: Pick<PipelineAppOptions, "fronts" | "corsOrigins">;
  /** Base URL of an OTLP receiver over HTTP, which then gets the spans. @default the mesh's own collector, in memory */
  readonly otlp?: string;
}

/** An engine whose generations another one runs, so that tests of one mesh can each have their own. */
export function createSwitchEngine() {
  const own = createFakeEngine();
  let current: ManagedEngine = own;
  const engine: ManagedEngine = { ...own, generate: (request, options) => current.generate(request, options) };
  return {
    engine,
    use<Next extends ManagedEngine>(next: Next): Next {
      current = next;
      return next;
    },
  };
}

/** Watches a job to its end. */
export async function lastOf({ jobs }: Pick<JobMesh, "jobs">, job: Pick<Job, "id"> | undefined): Promise<Job> {
  let last: Job | undefined;
  for await (const update of jobs.watchJob({ id: job?.id ?? "" })) {
    last = update.job;
  }
  assert.ok(last);
  return last;
}

/** Variables of services that export to a receiver at once. */
function exportQuickly(endpoint: string) {
  return {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    OTEL_BSP_SCHEDULE_DELAY: "100",
  };
}

/** Workers, and a pipeline with jobs, on loopback ports. */
export async function startJobMesh(options: JobMeshOptions = {}) {
  const { engines = [createFakeEngine()], source = await createTestDatabase() } = options;
  const collector = createSpanCollector();
  const measured = createMetricCollector();
  const lines: string[] = [];
  const observed = (serviceName: string) =>
    observe({
      serviceName,
      level: "trace",
      write: (line) => void lines.push(line),
      metricReaders: serviceName === "image-pipeline" ? [measured.reader()] : [],
      ...(options.otlp === undefined
        ? { environment: {}, exporters: [collector.exporter] }
        : { environment: exportQuickly(options.otlp) }),
    });
  const workers = await Promise.all(
    engines.map((engine) =>
      createWorkerApp({ startEngine: async () => engine, ...observed("text-to-image-worker") }).serve({ port: 0 }),
    ),
  );
  const target = `ipv4:${workers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`;
  const stopWorkers = () => Promise.all(workers.map((worker) => worker.stop({ graceMs: 0 })));
  const ofPipeline = observed("image-pipeline");
  const folder = options.folder ?? (await temporaryFolder());
  const jobFolder = await createJobFolder(folder);
  const database = await openJobDatabase({
    source,
    onError: (error) => ofPipeline.logger.warn({ err: error }, "database"),
  });
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({ apps: { [jobApp]: { target } }, defaultApp: jobApp }),
    extensions: [
      (calls) =>
        createJobs({
          openDatabase: async () => database,
          folder: jobFolder,
          cipher: createPayloadCipher(options.keys ?? []),
          pipeline: calls,
          limits: options.limits,
          jobTrace: options.jobTrace,
          webhooks: options.webhooks,
          listsAnonymous: options.listsAnonymous ?? true,
          telemetry: ofPipeline.telemetry,
          logger: ofPipeline.logger,
        }),
    ],
    ...options.pipeline,
    ...ofPipeline,
  })
    .serve({ port: 0, ...options.serve })
    .catch(async (error: unknown) => {
      await stopWorkers();
      throw error;
    });
  collector.clear();
  const transport = createGrpcTransport({ baseUrl: pipeline.url });
  return {
    jobs: createClient(JobService, transport),
    pipeline: createClient(ImagePipelineService, transport),
    url: pipeline.url,
    folder,
    database,
    lines,
    collector,
    spans: () => collector.spans(),
    /** Reads the pipeline's metrics now. */
    metrics: () => measured.read(),
    workers,
    stopPipeline: () => pipeline.stop({ graceMs: 0 }),
    async stop() {
      await pipeline.stop({ graceMs: 0 });
      await stopWorkers();
    },
  };
}

export type JobMesh = Awaited<ReturnType<typeof startJobMesh>>;
