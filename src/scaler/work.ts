import type { CallDemand, JobDemand } from "../calls/demand.js";
import type { PeerCalls } from "./peer-calls.js";

/** Work of an app at one moment. */
export interface AppWork {
  /** Jobs that wait or run, and calls that wait or run. */
  readonly count: number;
  /** Whether the app needs a worker: it has work, or has had a call lately. */
  readonly isActive: boolean;
  /** Milliseconds after which `isActive` may end without a change of the work; undefined: it does not. */
  readonly againMs: number | undefined;
}

/** Work of all apps, in all pipelines as far as they share it. */
export interface Work {
  /** @throws the error of the jobs' database. */
  of(app: string): Promise<AppWork>;
  /** Calls back when the work of an app may have changed. Returns a function that ends it. */
  watch(app: string, listener: () => void): () => void;
}

/** Where the work is counted. */
export interface WorkSources {
  readonly calls: CallDemand;
  /** Absent: the pipeline has no jobs. */
  readonly jobs?: JobDemand | undefined;
  /** Absent: nothing is known of other pipelines' calls. */
  readonly peers?: PeerCalls | undefined;
}

/** Time for which a count of the jobs is shared unless a change is reported, in milliseconds. */
const sharedMs = 200;

/** Shares each count of the jobs: every stream of an autoscaler asks for its own app at each change, and the count has all apps. */
function shareCounts(jobs: JobDemand): JobDemand["counts"] {
  let shared: ReturnType<JobDemand["counts"]> | undefined;
  jobs.onChange(() => {
    shared = undefined;
  });
  return () => {
    if (shared !== undefined) {
      return shared;
    }
    const counts = jobs.counts();
    const drop = () => {
      if (shared === counts) {
        shared = undefined;
      }
    };
    shared = counts;
    counts.then(() => setTimeout(drop, sharedMs).unref(), drop);
    return counts;
  };
}

/** Adds up the work of the apps. */
export function createWork({ calls, jobs, peers }: WorkSources): Work {
  // Before the watchers hear of a change, which ask at once.
  const countJobs = jobs && shareCounts(jobs);
  const watchers = new Set<{ readonly app: string; readonly listener: () => void }>();
  const changed = (app: string | undefined): void => {
    for (const watcher of watchers) {
      if (app === undefined || watcher.app === app) {
        watcher.listener();
      }
    }
  };
  calls.onChange(changed);
  jobs?.onChange(changed);
  peers?.onChange(changed);

  return {
    async of(app) {
      const ofJobs = (await countJobs?.())?.get(app) ?? 0;
      const here = calls.of(app);
      const there = peers?.of(app);
      const count = ofJobs + here.running + (there?.running ?? 0);
      const wantedMs = Math.max(here.wantedMs, there?.wantedMs ?? 0);
      return {
        count,
        isActive: count > 0 || wantedMs > 0,
        againMs: count === 0 && wantedMs > 0 ? Math.ceil(wantedMs) : undefined,
      };
    },
    watch(app, listener) {
      const watcher = { app, listener };
      watchers.add(watcher);
      return () => void watchers.delete(watcher);
    },
  };
}
