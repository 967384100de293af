import { setTimeout as delay, setImmediate } from "node:timers/promises";
import type { Progress } from "../gen/throughline/v1/image_pb.js";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import { notFound } from "../mesh/errors/errors.js";
import { createNotifier, type Notifier } from "../mesh/serve/stream-notifier.js";
import type { JobChange, JobNotice } from "./job-notices.js";
import type { QueuePlace } from "./job-places.js";
import { isOlder, isUnfinished, type JobProgress, type StoredJob } from "./job-rows.js";
import type { JobStore } from "./job-store.js";

/** A job at one moment. */
export interface JobSnapshot {
  readonly job: StoredJob;
  /** Place of a waiting job; undefined before it is known. */
  readonly place: QueuePlace | undefined;
  /** Progress of a running job, newer than the row's; with previews for jobs that run in this process. */
  readonly progress: Progress | JobProgress | undefined;
  /** Whether a worker of a waiting job's app serves; undefined before it is known. */
  readonly hasWorker?: boolean | undefined;
}

/** Watchers of jobs. Each watched job is read once for all of them. */
export interface JobWatch {
  /**
   * Yields the job, and again after each change that the reader has not seen. A slow reader gets the newest state. Ends after a final state,
   * or when the signal is aborted.
   *
   * @param check throws if the job, or undefined for a missing one, is not to be shown.
   * @throws the error of `check`, the database's, or ConnectError NOT_FOUND when the job is deleted.
   */
  watch(id: string, check: (job: StoredJob | undefined) => unknown, signal: AbortSignal): AsyncGenerator<JobSnapshot>;
  /** Shows a change of this process. */
  show(change: JobChange): void;
  /** Passes a notification of another process on. */
  notice(notice: JobNotice): void;
  /** Passes the progress of a job of this process on. */
  progress(id: string, progress: Progress): void;
  /** Reads all watched jobs again, after lost notifications. */
  refresh(): void;
  close(): void;
}

interface Watched {
  /** Undefined before the first read, and of a deleted job. */
  snapshot: JobSnapshot | undefined;
  isDeleted: boolean;
  readonly readers: Set<Notifier>;
}

/** Between two looks at all watched jobs, for their places and for changes without a notification, in milliseconds. */
const surveyMs = 1_000;
/** Between two looks for the places of new watchers: each one reads the whole queue. */
const newcomersMs = 200;

/**
 * @param onError called when the database does not answer; the watchers keep what they know.
 * @param hasWorker returns whether a worker of an app serves.
 */
export function createJobWatch(
  store: JobStore,
  onError: (error: unknown) => void,
  hasWorker: (app: string) => Promise<boolean>,
): JobWatch {
  const watched = new Map<string, Watched>();

  const change = (entry: Watched, snapshot: JobSnapshot | undefined): void => {
    entry.snapshot = snapshot;
    for (const reader of entry.readers) {
      reader.notify();
    }
  };

  /** Takes a row over, unless a newer one is known: rows come by reads and by changes of this process. */
  const take = (entry: Watched, job: StoredJob | undefined): void => {
    const before = entry.snapshot;
    if (job === undefined) {
      entry.isDeleted = true;
      change(entry, undefined);
    } else if (!entry.isDeleted && !(before && isOlder(job, before.job))) {
      const isSameAttempt = before?.job.attempt === job.attempt && before.job.state === job.state;
      change(entry, {
        job,
        place: job.state === JobState.QUEUED ? before?.place : undefined,
        hasWorker: before?.hasWorker,
        progress: isSameAttempt ? before.progress : undefined,
      });
    }
  };

  const read = (id: string, entry: Watched): void => {
    store.read(id).then((job) => take(entry, job), onError);
  };

  /** Looks at jobs, at one place in the code at a time. */
  const survey = (ids: readonly string[]): Promise<void> =>
    store.survey(ids).then(async (states) => {
      const waiting = ids
        .flatMap((id) => watched.get(id)?.snapshot?.job ?? [])
        .filter(({ state }) => state === JobState.QUEUED);
      const apps = [...new Set(waiting.map(({ app }) => app))];
      const served = new Map(await Promise.all(apps.map(async (app) => [app, await hasWorker(app)] as const)));
      for (const id of ids) {
        const entry = watched.get(id);
        if (entry?.snapshot === undefined) {
          continue;
        }
        const now = states.get(id);
        const { job, place: known } = entry.snapshot;
        if (now?.state !== job.state || now.attempt !== job.attempt) {
          // Its notification was lost, or comes in a moment.
          read(id, entry);
        } else if (
          now.place !== undefined &&
          (known?.ahead !== now.place.ahead ||
            Math.abs(known.secondsAhead - now.place.secondsAhead) >= 1 ||
            entry.snapshot.hasWorker !== served.get(job.app))
        ) {
          change(entry, { ...entry.snapshot, place: now.place, hasWorker: served.get(job.app) });
        }
      }
    }, onError);

  let isSurveying = false;
  const timer = setInterval(async () => {
    const ids = [...watched].filter(([, { snapshot }]) => snapshot && isUnfinished(snapshot.job)).map(([id]) => id);
    if (!isSurveying && ids.length > 0) {
      isSurveying = true;
      await survey(ids);
      isSurveying = false;
    }
  }, surveyMs);
  timer.unref();

  /** Waiting jobs that are watched since the last look. */
  const newcomers = new Set<string>();
  let isPlacing = false;
  const placeNewcomers = async (): Promise<void> => {
    if (isPlacing) {
      return;
    }
    isPlacing = true;
    while (newcomers.size > 0) {
      const ids = [...newcomers];
      newcomers.clear();
      await survey(ids);
      await delay(newcomersMs, undefined, { ref: false });
    }
    isPlacing = false;
  };

  return {
    async *watch(id, check, signal) {
      const reader = createNotifier();
      const entry: Watched = watched.get(id) ?? { snapshot: undefined, isDeleted: false, readers: new Set() };
      // Before the read, so that no change is missed.
      watched.set(id, entry);
      entry.readers.add(reader);
      try {
        const job = await store.read(id);
        check(job);
        take(entry, job);
        if (job?.state === JobState.QUEUED && entry.snapshot?.place === undefined) {
          newcomers.add(id);
          void placeNewcomers();
        }
        let shown: JobSnapshot | undefined;
        while (!signal.aborted) {
          const { snapshot } = entry;
          if (snapshot === undefined) {
            throw notFound("the job was deleted");
          }
          if (snapshot !== shown) {
            shown = snapshot;
            yield snapshot;
            if (!isUnfinished(snapshot.job)) {
              return;
            }
            continue;
          }
          await reader.wait(signal);
          // Changes that arrive together are one.
          await setImmediate();
        }
      } finally {
        entry.readers.delete(reader);
        if (entry.readers.size === 0) {
          watched.delete(id);
        }
      }
    },
    show({ id, job }) {
      const entry = watched.get(id);
      if (entry !== undefined) {
        take(entry, job);
      }
    },
    notice({ id, progress }) {
      const entry = watched.get(id);
      if (entry === undefined) {
        return;
      }
      if (progress === undefined) {
        read(id, entry);
      } else if (entry.snapshot?.job.state === JobState.RUNNING && !isLocal(entry.snapshot.progress)) {
        change(entry, { ...entry.snapshot, progress });
      }
    },
    progress(id, progress) {
      const entry = watched.get(id);
      if (entry?.snapshot?.job.state === JobState.RUNNING) {
        change(entry, { ...entry.snapshot, progress });
      }
    },
    refresh() {
      for (const [id, entry] of watched) {
        read(id, entry);
      }
    },
    close: () => clearInterval(timer),
  };
}

/** Whether the progress comes from this process, which knows more than the notifications about it. */
function isLocal(progress: Progress | JobProgress | undefined): boolean {
  return progress !== undefined && "preview" in progress;
}
