import type { Progress } from "../gen/throughline/v1/image_pb.js";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import { notFound } from "../mesh/errors/errors.js";
import { createNotifier, type Notifier } from "../mesh/serve/stream-notifier.js";
import { isUnfinished, type JobProgress, type StoredJob } from "./job-rows.js";
import type { JobStore, QueuePlace } from "./job-store.js";
import type { JobNotice } from "./job-table.js";

/** A job at one moment. */
export interface JobSnapshot {
  readonly job: StoredJob;
  /** Place of a waiting job; undefined before it is known. */
  readonly place: QueuePlace | undefined;
  /** Progress of a running job, newer than the row's; with previews for jobs that run in this process. */
  readonly progress: Progress | JobProgress | undefined;
}

/** Watchers of jobs. Each watched job is read once for all of them. */
export interface JobWatch {
  /**
   * Yields the job, and again after each change that the reader has not seen. A slow reader gets the newest state. Ends after a final state,
   * or when the signal is aborted.
   *
   * @throws ConnectError NOT_FOUND when the job is deleted.
   */
  watch(job: StoredJob, signal: AbortSignal): AsyncGenerator<JobSnapshot>;
  /** Passes a notification on. */
  notice(notice: JobNotice): void;
  /** Passes the progress of a job of this process on. */
  progress(id: string, progress: Progress): void;
  /** Reads all watched jobs again, after lost notifications. */
  refresh(): void;
  close(): void;
}

interface Watched {
  snapshot: JobSnapshot | undefined;
  readonly readers: Set<Notifier>;
  reading: boolean;
  stale: boolean;
}

/** Between two looks at all watched jobs, for their places and for changes without a notification, in milliseconds. */
const surveyMs = 1_000;

/** @param onError called when the database does not answer; the watchers keep what they know. */
export function createJobWatch(store: JobStore, onError: (error: unknown) => void): JobWatch {
  const watched = new Map<string, Watched>();

  const change = (entry: Watched, snapshot: JobSnapshot | undefined): void => {
    entry.snapshot = snapshot;
    for (const reader of entry.readers) {
      reader.notify();
    }
  };

  const read = (id: string, entry: Watched): void => {
    if (entry.reading) {
      entry.stale = true;
      return;
    }
    entry.reading = true;
    entry.stale = false;
    store
      .read(id)
      .then((job) => {
        const before = entry.snapshot;
        const sameAttempt = before?.job.attempt === job?.attempt && before?.job.state === job?.state;
        change(
          entry,
          job && {
            job,
            place: job.state === JobState.QUEUED ? before?.place : undefined,
            progress: sameAttempt ? before?.progress : undefined,
          },
        );
      }, onError)
      .finally(() => {
        entry.reading = false;
        if (entry.stale) {
          read(id, entry);
        }
      });
  };

  let surveying = false;
  /** Whether a watcher came meanwhile. */
  let surveyAgain = false;
  const survey = (): void => {
    if (surveying) {
      surveyAgain = true;
      return;
    }
    const ids = [...watched].filter(([, { snapshot }]) => snapshot && isUnfinished(snapshot.job)).map(([id]) => id);
    if (ids.length === 0) {
      return;
    }
    surveying = true;
    surveyAgain = false;
    const found = store.survey(ids).then((states) => {
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
          (known?.ahead !== now.place.ahead || Math.abs(known.secondsAhead - now.place.secondsAhead) >= 1)
        ) {
          change(entry, { ...entry.snapshot, place: now.place });
        }
      }
    }, onError);
    found.finally(() => {
      surveying = false;
      if (surveyAgain) {
        survey();
      }
    });
  };
  const timer = setInterval(survey, surveyMs);
  timer.unref();

  return {
    async *watch(job, signal) {
      const reader = createNotifier();
      const entry: Watched = watched.get(job.id) ?? {
        snapshot: undefined,
        readers: new Set(),
        reading: false,
        stale: false,
      };
      entry.snapshot ??= { job, place: undefined, progress: undefined };
      watched.set(job.id, entry);
      entry.readers.add(reader);
      try {
        // A change between the caller's own look and now.
        read(job.id, entry);
        survey();
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
        }
      } finally {
        entry.readers.delete(reader);
        if (entry.readers.size === 0) {
          watched.delete(job.id);
        }
      }
    },
    notice({ id, progress }) {
      const entry = watched.get(id);
      if (entry?.snapshot === undefined) {
        return;
      }
      if (progress === undefined) {
        read(id, entry);
      } else if (entry.snapshot.job.state === JobState.RUNNING && !isLocal(entry.snapshot.progress)) {
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
