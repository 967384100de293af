import { type Client, Code, ConnectError } from "@connectrpc/connect";
import { computed, signal as createSignal, effect, type ReadonlySignal } from "@preact/signals";
import type { Job, JobService } from "../../gen/throughline/v1/job_pb.js";
import type { UserError } from "../request/user-error.js";
import { backOffMs } from "../service/connection.js";
import { createPauses } from "../service/pauses.js";
import {
  createdMs,
  entryOf,
  hasGap,
  idsToWatch,
  isUnfinished,
  type JobEntry,
  type KnownJobs,
  newestFirst,
  withListing,
} from "./job-entry.js";
import { jobErrorOf } from "./job-error.js";
import { createJobWatches } from "./job-watches.js";

/** Where the list is. */
export type ListState =
  /** Nobody has looked at it yet. */
  | { readonly kind: "idle" }
  | { readonly kind: "loading" }
  | { readonly kind: "ready" }
  /** The last look failed; what was known before stays. */
  | { readonly kind: "failed"; readonly problem: UserError };

/** The caller's jobs, kept up to date while they are seen. */
export interface JobList {
  readonly state: ReadonlySignal<ListState>;
  /** Newest first. */
  readonly entries: ReadonlySignal<readonly JobEntry[]>;
  /** Whether there are older jobs to load. */
  readonly hasMore: ReadonlySignal<boolean>;
  /** Begins or ends the updates. */
  setSeen(seen: boolean): void;
  /** Looks again now. */
  retry(): void;
  /** Loads the next older jobs. Failures come in `state`. */
  loadMore(): Promise<void>;
  /** Puts a job in that a call returned. */
  put(job: Job): void;
  /** Takes a job out for good. */
  drop(id: string): void;
  has(id: string): boolean;
}

/** What the list needs. */
export interface JobListOptions {
  readonly client: Client<typeof JobService>;
  /** Maximum number of jobs with a stream of their own. */
  readonly maxWatched: number;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** 0 to 1, for the pauses between tries. */
  readonly random: () => number;
  /** Called after each change of a job's state or attempt. */
  readonly onChange: (entry: JobEntry) => void;
}

/** Jobs of a page of the list. */
const pageSize = 100;
/** Between two looks at the list while a job in it is unfinished, for each page that is looked at, in milliseconds. */
const unfinishedMs = 3_000;
/** Between two looks at a list in which all jobs have ended: others may submit new ones. */
const finishedMs = 15_000;
/** The first call opens an embedded database. */
const answerMs = 60_000;

/** Codes after which the same call fails again. */
const lasting: ReadonlySet<Code> = new Set([Code.Unimplemented, Code.PermissionDenied, Code.Unauthenticated]);

/**
 * Creates the list, which calls nothing before it is seen: the first call opens the pipeline's database. It watches the jobs that run and are
 * next, and looks at the list for the others.
 */
export function createJobList({ client, maxWatched, now, random, onChange }: JobListOptions): JobList {
  const state = createSignal<ListState>({ kind: "idle" });
  const known = createSignal<KnownJobs>(new Map());
  const entries = computed(() => newestFirst(known.value));
  const olderToken = createSignal("");
  const isSeen = createSignal(false);
  const gone = new Set<string>();
  const pauses = createPauses();
  let looking = new AbortController();
  let looks = 0;

  const change = (next: KnownJobs): void => {
    const before = known.peek();
    known.value = next;
    for (const [id, entry] of next) {
      const old = before.get(id)?.job;
      if (old !== undefined && (old.state !== entry.job.state || old.attempt !== entry.job.attempt)) {
        onChange(entry);
      }
    }
  };
  const put = (job: Job): void => {
    if (!gone.has(job.id)) {
      change(new Map(known.peek()).set(job.id, entryOf(job, known.peek().get(job.id), ++looks, now())));
    }
  };
  const drop = (id: string): void => {
    gone.add(id);
    change(new Map([...known.peek()].filter(([other]) => other !== id)));
  };
  const watches = createJobWatches({ client, random, onJob: put, onGone: drop });
  effect(() => watches.follow(isSeen.value ? idsToWatch(entries.value, maxWatched) : []));

  const add = (jobs: readonly Job[], isWhole: boolean, askedAt: number): void =>
    change(
      withListing(
        known.peek(),
        { jobs, isWhole, askedAt, nowMs: now() },
        { isWatched: watches.isLive, isGone: (id) => gone.has(id) },
      ),
    );

  /** Reads the list as far as the oldest job that can change. Returns the number of pages. */
  const look = async (signal: AbortSignal): Promise<number> => {
    const askedAt = ++looks;
    const oldestKnown = entries.peek().at(-1)?.job;
    const oldestUnfinished = entries.peek().findLast(({ job }) => isUnfinished(job))?.job;
    const reaches = (oldest: Job | undefined, wanted: Job | undefined) =>
      oldest === undefined || wanted === undefined || createdMs(oldest) <= createdMs(wanted);
    const jobs: Job[] = [];
    let pageToken = "";
    let pages = 0;
    let isCut = false;
    do {
      const page = await client.listJobs({ pageSize, pageToken }, { signal, timeoutMs: answerMs });
      jobs.push(...page.jobs);
      pageToken = page.nextPageToken;
      isCut = ++pages === 1 && hasGap(known.peek(), { jobs, isWhole: pageToken === "" });
    } while (pageToken !== "" && !isCut && !reaches(jobs.at(-1), oldestUnfinished));
    if (!signal.aborted) {
      add(jobs, pageToken === "", askedAt);
      if (pageToken === "" || isCut || reaches(jobs.at(-1), oldestKnown)) {
        olderToken.value = pageToken;
      }
    }
    return pages;
  };

  const keepLooking = async (signal: AbortSignal): Promise<void> => {
    let failures = 0;
    if (state.peek().kind === "idle") {
      state.value = { kind: "loading" };
    }
    while (!signal.aborted) {
      let pauseMs: number | undefined;
      try {
        const pages = await look(signal);
        failures = 0;
        pauseMs = entries.peek().some(({ job }) => isUnfinished(job)) ? unfinishedMs * pages : finishedMs;
        if (!signal.aborted) {
          state.value = { kind: "ready" };
        }
      } catch (error) {
        if (!signal.aborted) {
          state.value = { kind: "failed", problem: jobErrorOf(error) };
          failures++;
          pauseMs = lasting.has(ConnectError.from(error).code) ? undefined : backOffMs(failures, random());
        }
      }
      await pauses.wait(pauseMs, signal);
    }
  };

  return {
    state,
    entries,
    hasMore: computed(() => olderToken.value !== ""),
    setSeen(seen) {
      if (seen === isSeen.peek()) {
        return;
      }
      isSeen.value = seen;
      looking.abort();
      if (seen) {
        looking = new AbortController();
        void keepLooking(looking.signal);
      } else if (state.peek().kind === "loading") {
        state.value = { kind: "idle" };
      }
    },
    retry: pauses.wake,
    async loadMore() {
      const { signal } = looking;
      const pageToken = olderToken.peek();
      const askedAt = ++looks;
      try {
        const page = await client.listJobs({ pageSize, pageToken }, { signal, timeoutMs: answerMs });
        if (!signal.aborted && olderToken.peek() === pageToken) {
          const older = page.jobs.filter(({ id }) => !gone.has(id) && !known.peek().has(id));
          const added = older.map((job) => [job.id, entryOf(job, undefined, askedAt, now())] as const);
          change(new Map([...known.peek(), ...added]));
          olderToken.value = page.nextPageToken;
        }
      } catch (error) {
        if (!signal.aborted) {
          state.value = { kind: "failed", problem: jobErrorOf(error) };
        }
      }
    },
    put,
    drop,
    has: (id) => known.peek().has(id),
  };
}
