import type { DescMethod } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { JobDemand, PeerChannel } from "../calls/demand.js";
import type { PipelineCalls } from "../calls/pipeline-calls.js";
import { JobService, JobState } from "../gen/throughline/v1/job_pb.js";
import { unavailable } from "../mesh/errors/errors.js";
import type { NodeRequest, NodeResponse } from "../mesh/port/node-handler.js";
import type { RemoteParent } from "../otelconnect/otel-context.js";
import type { Telemetry } from "../trace/telemetry/telemetry.js";
import { createDispatcher } from "./dispatcher.js";
import { createEmptyJobService } from "./empty-job-service.js";
import { type JobDatabase, jobChannel, peerChannel } from "./job-database.js";
import { statusOf } from "./job-failure.js";
import { countWrites, createJobImageRoute, type JobFiles, type JobFolder } from "./job-files.js";
import { createJobMessages } from "./job-message.js";
import { createJobMetrics } from "./job-metrics.js";
import { type JobChange, mayHaveEnded, mayStartJobs, readNotice } from "./job-notices.js";
import { createJobPayloads } from "./job-payloads.js";
import { createJobQueue } from "./job-queue.js";
import { isUnfinished } from "./job-rows.js";
import { createJobService, type JobServiceImplementation } from "./job-service.js";
import { createJobStore, type JobCounts } from "./job-store.js";
import type { JobTrace } from "./job-trace.js";
import { createJobWatch } from "./job-watch.js";
import { deleteLeftovers } from "./leftovers.js";
import { checkKeys, type PayloadCipher } from "./payload-cipher.js";
import { shareReads } from "./shared-reads.js";
import { defaultWaitingLimits, type WaitingLimits } from "./waiting-limits.js";
import { checkWebhookUrl, type WebhookPolicy } from "./webhook-target.js";
import { createWebhooks, openWebhookQueues } from "./webhooks.js";

/** Options of {@link createJobs}. */
export interface JobsOptions {
  /** Opens the database: at the start, or for the first job. The jobs close it. */
  readonly openDatabase: () => Promise<JobDatabase>;
  /** Whether there is no database yet: the first CreateJob opens it then, and not the start. @default false */
  readonly isNew?: boolean | undefined;
  readonly folder: JobFolder;
  readonly cipher: PayloadCipher;
  readonly pipeline: PipelineCalls;
  /** Bounds on waiting jobs. @default 10,000 in all, 1,000 of one owner */
  readonly limits?: WaitingLimits | undefined;
  /** @default "parent" */
  readonly jobTrace?: JobTrace | undefined;
  /** Webhooks of ended jobs. @default none */
  readonly webhooks?: { readonly policy: WebhookPolicy; readonly secret: string } | undefined;
  /** Use of a caller's trace headers by `send`. @default "link" */
  readonly headerPolicy?: RemoteParent | undefined;
  /** Whether callers without a name may list jobs. @default false */
  readonly listsAnonymous?: boolean | undefined;
  /** Public base URL of the pipeline. @default the origin of the call's URL */
  readonly publicUrl?: string | undefined;
  readonly telemetry: Pick<Telemetry, "tracer" | "propagator" | "meter">;
  readonly logger: Logger;
}

/** The jobs of a pipeline: a service, its images, and the dispatcher that runs them. */
export interface Jobs {
  readonly services: readonly [typeof JobService];
  readonly imageMethods: readonly DescMethod[];
  readonly routes: (router: ConnectRouter) => void;
  readonly httpRoute: (request: NodeRequest, response: NodeResponse) => boolean;
  /** The jobs that wait or run, for an autoscaler. */
  readonly demand: JobDemand;
  /** Counts of all apps. @throws the database's error */
  counts(): Promise<JobCounts>;
  /** Messages to the other pipelines of the database. Open it once the jobs have started. */
  readonly peers: PeerChannel;
  /** The open database, for tables of other parts of the pipeline. Use it once the jobs have started. */
  database(): Promise<Pick<JobDatabase, "sql" | "transaction" | "listen">>;
  /** Opens the database and begins to run jobs, unless the first CreateJob does. @throws the error of `openDatabase` */
  start(): Promise<void>;
  /** Ends the watches. Called when the pipeline starts draining. */
  end(): void;
  /** Gives the running jobs back, and closes the database. */
  close(): Promise<void>;
}

/** Creates the jobs of a pipeline. */
export function createJobs(options: JobsOptions): Jobs {
  const { isNew = false, folder, logger, listsAnonymous = false } = options;
  const ending = new AbortController();
  let running: Promise<RunningJobs> | undefined;
  const demandListeners: ((app: string | undefined) => void)[] = [];
  const onDemand = (app: string | undefined): void => {
    for (const listener of demandListeners) {
      listener(app);
    }
  };
  const open = async (): Promise<RunningJobs> => {
    if (running === undefined && ending.signal.aborted) {
      throw new Error("the pipeline is shutting down");
    }
    running ??= runJobs(options, ending.signal, onDemand).catch((error: unknown) => {
      running = undefined;
      throw error;
    });
    return running;
  };
  const service = async (): Promise<JobServiceImplementation> => {
    try {
      return (await open()).service;
    } catch (error) {
      logger.error({ err: error }, "the jobs' database cannot be opened");
      throw unavailable("the jobs' database cannot be opened; the server's log has the reason", error);
    }
  };
  const empty = createEmptyJobService({ listsAnonymous });
  /** For calls about jobs that exist. A database that is being created may have its first. */
  const existing = async () => (isNew && running === undefined ? empty : service());
  return {
    services: [JobService],
    imageMethods: [JobService.method.createJob],
    routes: (router) =>
      router.service(JobService, {
        createJob: async (request, call) => (await service()).createJob(request, call),
        getJob: async (request, call) => (await existing()).getJob(request, call),
        listJobs: async (request, call) => (await existing()).listJobs(request, call),
        async *watchJob(request, call) {
          yield* (await existing()).watchJob(request, call);
        },
        cancelJob: async (request, call) => (await existing()).cancelJob(request, call),
        deleteJob: async (request, call) => (await existing()).deleteJob(request, call),
      }),
    httpRoute: folder.hasOwnUrls ? () => false : createJobImageRoute(folder),
    demand: {
      counts: async () => (isNew && running === undefined ? new Map() : (await open()).unfinished()),
      onChange: (listener) => void demandListeners.push(listener),
    },
    counts: async () => (isNew && running === undefined ? noJobs : (await open()).counts()),
    peers: {
      open: async (onMessage) => (await open()).openPeers(onMessage),
      send: async (text) => (await open()).sendToPeers(text),
    },
    database: async () => (await open()).database,
    async start() {
      if (!isNew) {
        await open();
      }
    },
    end: () => ending.abort(),
    async close() {
      ending.abort();
      await running?.then(({ close }) => close()).catch(() => {});
    },
  };
}

/** Between two looks for jobs whose time is over, in milliseconds. */
const sweepMs = 1_000;

/** Between two looks for files of jobs that do not exist, such as of a call that was killed in mid-way, in milliseconds. */
const leftoversMs = 3_600_000;

const noJobs: JobCounts = { waiting: 0, running: 0, oldestSeconds: 0, deadWebhooks: 0 };

interface RunningJobs {
  readonly counts: () => Promise<JobCounts>;
  readonly database: JobDatabase;
  readonly service: JobServiceImplementation;
  readonly unfinished: JobDemand["counts"];
  readonly openPeers: PeerChannel["open"];
  readonly sendToPeers: PeerChannel["send"];
  close(): Promise<void>;
}

/**
 * Opens the database and runs its jobs.
 *
 * @param onDemand called with the app, or undefined for all, when its number of unfinished jobs may have changed.
 */
async function runJobs(
  options: JobsOptions,
  ending: AbortSignal,
  onDemand: (app: string | undefined) => void,
): Promise<RunningJobs> {
  const { openDatabase, folder, cipher, pipeline, limits = defaultWaitingLimits, telemetry, logger } = options;
  const { listsAnonymous = false } = options;
  const { tracer, propagator } = telemetry;
  const database = await openDatabase();
  /** Acts at once on what this process commits, without a way through the database. */
  const onChange = (change: JobChange): void => {
    const { id, app, job } = change;
    watch.show(change);
    // The dispatcher itself looks for the next job when one that runs here has ended.
    if (mayStartJobs(job?.state) && (job?.state === JobState.QUEUED || !dispatcher.runs(id))) {
      dispatcher.wake(app);
    }
    if (job?.webhook !== undefined && mayHaveEnded(job.state)) {
      sender?.wake();
    }
    // Those changes are also the ones of the number of unfinished jobs.
    if (mayStartJobs(job?.state)) {
      onDemand(app);
    }
  };
  const store = createJobStore(database, onChange);
  const queue = createJobQueue(database, onChange);
  const payloads = createJobPayloads(cipher);
  let files: JobFiles;
  try {
    checkKeys(cipher, await store.payloadHeads());
    files = shareReads(countWrites(folder.of(await store.databaseId()), telemetry.meter));
  } catch (error) {
    await database.close();
    throw error;
  }
  const onDatabaseError = (error: unknown) => logger.warn({ err: error }, "the jobs' database does not answer");
  const watch = createJobWatch(store, onDatabaseError, async (app) => (await pipeline.workersOf(app)).serving > 0);
  const messages = createJobMessages({ payloads, files, workersOf: pipeline.workersOf });
  createJobMetrics(telemetry.meter, store, onDatabaseError);
  const { webhooks } = options;
  const sender =
    webhooks &&
    createWebhooks({ ...webhooks, database, store, payloads, messages, publicUrl: options.publicUrl, logger });
  const dispatcher = createDispatcher({
    queue,
    payloads,
    files,
    pipeline,
    tracer,
    propagator,
    jobTrace: options.jobTrace ?? "parent",
    onProgress: watch.progress,
    logger,
  });

  /** A cancel in another pipeline reaches a job that runs here. */
  const stopIfEnded = (id: string): void => {
    if (dispatcher.runs(id)) {
      store.read(id).then(
        // Not one that waits: its next attempt may have started here meanwhile.
        (job) => (job === undefined || !isUnfinished(job)) && dispatcher.stopJob(id),
        onDatabaseError,
      );
    }
  };
  const onNotice = (payload: string): void => {
    const notice = readNotice(payload);
    if (notice.from === database.origin) {
      return;
    }
    watch.notice(notice);
    if (notice.progress !== undefined) {
      return;
    }
    if (mayStartJobs(notice.state)) {
      dispatcher.wake(notice.app);
      onDemand(notice.app);
    }
    if (mayHaveEnded(notice.state)) {
      stopIfEnded(notice.id);
      sender?.wake();
    }
  };
  const onGap = (): void => {
    watch.refresh();
    dispatcher.wake();
    onDemand(undefined);
  };

  const overdue = (id: string): Uint8Array => {
    const error = new ConnectError("deadline exceeded: waiting for a free worker", Code.DeadlineExceeded);
    return payloads.sealError(id, statusOf(error));
  };
  const sweep = async (): Promise<void> => {
    await queue.failOverdue(overdue);
    await queue.requeueAbandoned();
    for (const id of await queue.deleteExpired()) {
      await files.delete(id);
    }
    if (Date.now() - leftoversAt >= leftoversMs) {
      leftoversAt = Date.now();
      await deleteLeftovers(files, store, leftoversAt - leftoversMs);
    }
  };
  let leftoversAt = 0;

  try {
    await openWebhookQueues(database);
    await database.listen(jobChannel, onNotice, onGap);
    await sender?.start();
  } catch (error) {
    await sender?.close();
    watch.close();
    await database.close();
    throw error;
  }
  dispatcher.start();
  ending.addEventListener("abort", dispatcher.drain);
  let sweeping = Promise.resolve();
  const timer = setInterval(() => {
    sweeping = sweeping.then(sweep).catch(onDatabaseError);
  }, sweepMs);
  return {
    service: createJobService({
      store,
      payloads,
      files,
      pipeline,
      tracer,
      propagator,
      headerPolicy: options.headerPolicy ?? "link",
      limits,
      checkWebhook: (url) => checkWebhookUrl(url, options.webhooks?.policy ?? { hosts: [] }),
      watch,
      messages,
      stopJob: dispatcher.stopJob,
      listsAnonymous,
      publicUrl: options.publicUrl,
      ending,
    }),
    counts: () => store.counts(),
    database,
    unfinished: store.unfinished,
    openPeers: (onMessage) => database.listen(peerChannel, onMessage, () => {}),
    async sendToPeers(text) {
      await database.sql.executeSql("select pg_notify($1, $2)", [peerChannel, text]);
    },
    async close() {
      clearInterval(timer);
      await dispatcher.close();
      await sender?.close();
      await sweeping;
      watch.close();
      await database.close();
    },
  };
}
