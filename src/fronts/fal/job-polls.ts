import type { Client } from "@connectrpc/connect";
import { LRUCache } from "lru-cache";
import type { JobService } from "../../gen/throughline/v1/job_pb.js";
import { isFinal, type PolledJob, polledJobOf } from "./polled-job.js";

/** Typed client of the jobs. */
export type JobsClient = Client<typeof JobService>;

/**
 * Newest states of polled jobs. The first poll of a job reads it and begins to watch it; polls after that read memory, so their rate does not
 * reach the database.
 */
export interface JobPolls {
  /**
   * Returns a job of a caller.
   *
   * @param owner name of the caller; empty without access control.
   * @param connect creates the client for a job that is not known yet.
   * @throws ConnectError NOT_FOUND, UNAVAILABLE
   */
  read(owner: string, id: string, connect: () => JobsClient): Promise<PolledJob>;
  /** Forgets a job, whose state the caller has changed. */
  forget(owner: string, id: string): void;
}

interface Entry {
  job: Promise<PolledJob>;
  isFinal: boolean;
  readonly unwatched: AbortController;
}

/** Time without a poll after which a job is no longer watched, in milliseconds. */
const idleMs = 10_000;
/** Time for which a final state is kept, in milliseconds: the job may be deleted meanwhile. */
const finalMs = 2_000;
const maxWatched = 10_000;

/** Create an empty store of polled jobs. */
export function createJobPolls(): JobPolls {
  const entries = new LRUCache<string, Entry>({
    max: maxWatched,
    ttl: idleMs,
    ttlAutopurge: true,
    // Setting an entry again only changes its time.
    noDisposeOnSet: true,
    dispose: ({ unwatched }) => unwatched.abort(),
  });
  const keyOf = (owner: string, id: string) => `${id} ${owner}`;

  /** Keeps an entry up to date until it is final, fails, or is dropped. */
  const watch = async (key: string, entry: Entry, first: PolledJob, jobs: JobsClient): Promise<void> => {
    let newest = first;
    const signal = entry.unwatched.signal;
    try {
      for await (const { job } of jobs.watchJob({ id: first.id }, { signal })) {
        if (job === undefined) {
          continue;
        }
        newest = polledJobOf(job, newest);
        entry.job = Promise.resolve(newest);
        if (isFinal(job)) {
          settle(key, entry);
        }
      }
    } catch {
      // Deleted, or the pipeline or its database is going away: the next poll reads it anew and reports the reason.
      drop(key, entry);
    }
  };

  const settle = (key: string, entry: Entry): void => {
    entry.isFinal = true;
    if (entries.peek(key) === entry) {
      entries.set(key, entry, { ttl: finalMs });
    }
  };

  const drop = (key: string, entry: Entry): void => {
    if (entries.peek(key) === entry) {
      entries.delete(key);
    }
  };

  const open = (key: string, id: string, jobs: JobsClient): Entry => {
    const read = async (): Promise<PolledJob> => {
      const { job } = await jobs.getJob({ id });
      if (job === undefined) {
        throw new Error("GetJob answered without a job");
      }
      return polledJobOf(job);
    };
    const entry: Entry = { job: read(), isFinal: false, unwatched: new AbortController() };
    entries.set(key, entry);
    entry.job.then(
      (job) => (isFinal(job) ? settle(key, entry) : void watch(key, entry, job, jobs)),
      () => drop(key, entry),
    );
    return entry;
  };

  return {
    read(owner, id, connect) {
      const key = keyOf(owner, id);
      const known = entries.get(key);
      if (known !== undefined && !known.isFinal) {
        // `updateAgeOnGet` is the cache's, for all entries.
        entries.set(key, known);
      }
      return (known ?? open(key, id, connect())).job;
    },
    forget: (owner, id) => void entries.delete(keyOf(owner, id)),
  };
}
