import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import type { Logger } from "pino";
import type { Progress } from "../gen/throughline/v1/image_pb.js";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import { hiddenCauseOf } from "../mesh/errors/errors.js";
import { grpcStatusName } from "../otelconnect/errors.js";
import { type AttemptContext, runAttempt } from "./job-attempt.js";
import { failureOf, statusOf } from "./job-failure.js";
import type { JobPayloads } from "./job-payloads.js";
import type { Claim, ClaimedJob, JobQueue } from "./job-queue.js";

/** Options of {@link createDispatcher}. */
export interface DispatcherOptions extends AttemptContext {
  readonly queue: JobQueue;
  readonly payloads: JobPayloads;
  /** Called with the progress of the jobs that run here, previews included. */
  readonly onProgress: (id: string, progress: Progress) => void;
  readonly logger: Logger;
}

/** Runs the waiting jobs of all apps, as many at a time as workers serve. */
export interface Dispatcher {
  /** Begins to look for jobs. */
  start(): void;
  /** Looks for waiting jobs, of one app or all. */
  wake(app?: string): void;
  /** Stops a job if it runs here. The row says what became of it. */
  stopJob(id: string): void;
  /** Whether a job runs here. */
  runs(id: string): boolean;
  /** Takes no more jobs. */
  drain(): void;
  /** Takes no more jobs, gives the running ones back, and resolves when they have ended. */
  close(): Promise<void>;
}

/** Heartbeat of a claim, in milliseconds: three within pg-boss's 10 s. */
const heartbeatMs = 3_000;
/** Look into the queue without a notification, in milliseconds. */
const pollMs = 2_000;
/** Between two published reports of progress, in milliseconds. */
const publishNoticeMs = 100;
/** Between two stored reports of progress, in milliseconds. */
const storeProgressMs = 1_000;
/** Until the context of an attempt's span is stored, in milliseconds. One that ends before hands it on itself. */
const noteAttemptMs = 500;
/** After an error of the database, in milliseconds. */
const databaseWaitMs = 1_000;

/** Reason of an abort that is no cancellation by the job's owner. */
const shutdown = new ConnectError("the pipeline is shutting down", Code.Unavailable);

/** Creates a dispatcher that does nothing before its `start`. */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  const { queue, payloads, files, pipeline, onProgress, logger } = options;
  const running = new Map<
    string,
    { readonly app: string; readonly stop: AbortController; readonly ended: Promise<void> }
  >();
  /** Apps of which a job may wait: all have one of which the database or a notification says so. */
  const mayWait = new Set<string>();
  /** Apps that are being looked at, and whether to look again. */
  const looking = new Map<string, boolean>();
  /** Looks that may still claim a job. */
  const claiming = new Set<Promise<void>>();
  let draining = false;
  let closed = false;

  /** Looks for jobs of an app that may have some. */
  const look = (app: string): void => {
    if (draining || !mayWait.has(app)) {
      return;
    }
    if (looking.has(app)) {
      looking.set(app, true);
      return;
    }
    looking.set(app, false);
    const claims = startWaiting(app);
    claiming.add(claims);
    claims
      .finally(() => claiming.delete(claims))
      .catch(async (error: unknown) => {
        logger.warn({ err: error, app }, "the jobs' database does not answer");
        mayWait.add(app);
        await delay(databaseWaitMs, undefined, { ref: false });
      })
      .finally(() => {
        const again = looking.get(app) === true;
        looking.delete(app);
        if (again) {
          look(app);
        }
      });
  };

  /** Claims jobs of an app while its workers outnumber the running ones, here and in other pipelines. */
  const startWaiting = async (app: string): Promise<void> => {
    while (!draining && mayWait.has(app)) {
      const { serving } = await pipeline.workersOf(app);
      if (runningOf(app) >= serving) {
        return;
      }
      // Before the claim: a job that comes after it sets this again.
      mayWait.delete(app);
      const claimed = await queue.claim(app, serving);
      if (claimed === "none-waits") {
        continue;
      }
      if (claimed === "all-busy") {
        mayWait.add(app);
        return;
      }
      if (claimed === "ended") {
        mayWait.add(app);
        continue;
      }
      if (claimed.moreWait) {
        mayWait.add(app);
      }
      start(claimed);
    }
  };

  const runningOf = (app: string): number => [...running.values()].filter((job) => job.app === app).length;

  const start = (claimed: ClaimedJob): void => {
    const { id, app } = claimed.job;
    const stop = new AbortController();
    const ended = run(claimed, stop)
      .catch((error: unknown) => {
        // The job's claim ends without heartbeats, and another attempt follows.
        logger.error({ err: error, job: id }, "the end of a job could not be stored; it will run again");
      })
      .finally(() => {
        // The next attempt may run here already, if the database was away for longer than the claim lasts.
        if (running.get(id)?.stop === stop) {
          running.delete(id);
        }
        look(app);
      });
    running.set(id, { app, stop, ended });
    if (closed) {
      stop.abort(shutdown);
    }
  };

  const run = async ({ claim, job }: ClaimedJob, stop: AbortController): Promise<void> => {
    const { id, app } = job;
    const heartbeat = setInterval(() => beat(app, claim, stop), heartbeatMs);
    const reporter = createReporter(id, app);
    let hadProgress = false;
    let traceparent: string | undefined;
    let noting: NodeJS.Timeout | undefined;
    const log = logger.child({ job: id, app, attempt: job.attempt });
    try {
      const work = payloads.openWork(id, job.work);
      const result = await runAttempt(
        {
          job,
          work,
          signal: stop.signal,
          onProgress(progress) {
            hadProgress = true;
            onProgress(id, progress);
            reporter.report(progress);
          },
          onSpan(context) {
            traceparent = context;
            noting = setTimeout(() => queue.noteAttempt(id, context).catch(() => {}), noteAttemptMs);
          },
          onStoreAway: (error) => log.warn({ err: error }, "the image cannot be stored yet"),
        },
        options,
      );
      const outcome = payloads.sealResult(id, result);
      if (await isOurs(id, log, () => queue.settle(app, claim, { state: JobState.SUCCEEDED, outcome }))) {
        log.info("job succeeded");
      }
    } catch (error) {
      if (stop.signal.reason === shutdown) {
        if (await queue.giveBack(app, claim, { enginesLost: 0, traceparent })) {
          log.info("job given back");
        } else {
          await forgetDeleted(id);
        }
        return;
      }
      if (stop.signal.aborted) {
        await forgetDeleted(id);
        log.info("job stopped");
        return;
      }
      const failure = failureOf(error, job, hadProgress);
      if (failure.kind === "retry") {
        const { enginesLost } = failure;
        await delay(failure.afterMs, undefined, { signal: stop.signal }).catch(() => {});
        if (await isOurs(id, log, () => queue.giveBack(app, claim, { enginesLost, traceparent }))) {
          log.warn({ err: hiddenCauseOf(error) }, "attempt failed; the job waits again");
        }
        return;
      }
      const outcome = payloads.sealError(id, statusOf(failure.error));
      if (await isOurs(id, log, () => queue.settle(app, claim, { state: JobState.FAILED, outcome }))) {
        log.warn({ code: grpcStatusName(failure.error.code), err: hiddenCauseOf(failure.error) }, "job failed");
      }
    } finally {
      clearInterval(heartbeat);
      clearTimeout(noting);
      reporter.end();
    }
  };

  /** Stores the end of an attempt, and returns false if the job has been ended, deleted or given to another attempt meanwhile. */
  const isOurs = async (id: string, log: Logger, write: () => Promise<boolean>): Promise<boolean> => {
    if (await persist(write)) {
      return true;
    }
    await forgetDeleted(id);
    log.info("job was ended elsewhere");
    return false;
  };

  /** The image of a job that was deleted as it ended. */
  const forgetDeleted = async (id: string): Promise<void> => {
    if (!(await queue.has(id))) {
      await files.delete(id);
    }
  };

  const beat = (app: string, claim: Claim, stop: AbortController): void => {
    queue.keep(app, claim).then(
      (isOurs) => {
        if (!isOurs) {
          stop.abort(new ConnectError("the job was cancelled", Code.Canceled));
        }
      },
      // The database is away. The claim may end meanwhile; the fence then rejects our result.
      () => {},
    );
  };

  /**
   * Publishes progress, the newest one within {@link publishNoticeMs}, and stores it once a second. A job that ends before costs the database
   * nothing: the watchers of this process have its progress without it.
   */
  const createReporter = (id: string, app: string) => {
    let storedAt = performance.now();
    let newest: Progress | undefined;
    let timer: NodeJS.Timeout | undefined;
    const publish = (): void => {
      timer = undefined;
      if (newest === undefined) {
        return;
      }
      const { stage, step, totalSteps } = newest;
      newest = undefined;
      const isDue = performance.now() - storedAt >= storeProgressMs;
      if (isDue) {
        storedAt = performance.now();
      }
      queue.reportProgress({ id, app, progress: { stage, step, totalSteps } }, isDue).catch(() => {});
    };
    return {
      report(progress: Progress): void {
        newest = progress;
        timer ??= setTimeout(publish, publishNoticeMs);
      },
      end: () => clearTimeout(timer),
    };
  };

  /** Repeats a write while the database is away: a result must not be lost. */
  const persist = async <T>(write: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await write();
      } catch (error) {
        if (closed) {
          throw error;
        }
        logger.warn({ err: error }, "the end of a job cannot be stored yet");
        await delay(databaseWaitMs, undefined, { ref: false });
      }
    }
  };

  const wake = (app: string): void => {
    mayWait.add(app);
    look(app);
  };
  const lookAtAll = (): void => {
    queue.waitingApps().then(
      (apps) => apps.forEach(wake),
      () => {},
    );
  };
  let poll: NodeJS.Timeout | undefined;

  return {
    start() {
      poll = setInterval(lookAtAll, pollMs);
      pipeline.onServing(wake);
      lookAtAll();
    },
    wake: (app) => (app === undefined ? lookAtAll() : wake(app)),
    stopJob: (id) => running.get(id)?.stop.abort(new ConnectError("the job was cancelled", Code.Canceled)),
    runs: (id) => running.has(id),
    drain() {
      draining = true;
    },
    async close() {
      draining = true;
      closed = true;
      clearInterval(poll);
      // A claim on its way would otherwise be held by nobody until it expires.
      await Promise.allSettled(claiming);
      const all = [...running.values()];
      for (const { stop } of all) {
        stop.abort(shutdown);
      }
      await Promise.allSettled(all.map(({ ended }) => ended));
    },
  };
}
