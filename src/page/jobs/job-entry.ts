import { timestampMs } from "@bufbuild/protobuf/wkt";
import { type Job, JobState } from "../../gen/throughline/v1/job_pb.js";
import { advance, type Running, sent } from "../request/generation.js";

/** A job as the page knows it. */
export interface JobEntry {
  readonly job: Job;
  /** How far it is, with its preview and the pace of its updates; undefined in a final state. */
  readonly running: Running | undefined;
  /** Time of the look at the server that it is from, as a number that only grows. */
  readonly seenAt: number;
}

/** Whether the state can still change. */
export function isUnfinished({ state }: Job): boolean {
  return state === JobState.QUEUED || state === JobState.RUNNING;
}

/**
 * The entry of a job after a look at it.
 *
 * @param before what was known of it; its preview and marks stay as long as the attempt does.
 * @param nowMs by a clock that only goes forward, for the pace.
 */
export function entryOf(job: Job, before: JobEntry | undefined, seenAt: number, nowMs: number): JobEntry {
  return { job, running: runningOf(job, before, nowMs), seenAt };
}

function runningOf({ state, attempt, detail }: Job, before: JobEntry | undefined, nowMs: number): Running | undefined {
  switch (state) {
    case JobState.QUEUED: {
      const { position, estimatedWaitMs, noWorker } = detail.case === "queued" ? detail.value : unknownPlace;
      return position < 0 ? sent : { ...sent, phase: { kind: "queued", position, estimatedWaitMs, noWorker } };
    }
    case JobState.RUNNING: {
      const isSame = before?.job.state === state && before.job.attempt === attempt;
      const running = (isSame ? before.running : undefined) ?? sent;
      // Before the worker's first report, the progress has no stage.
      return detail.case === "progress" && detail.value.stage !== 0 ? advance(running, detail.value, nowMs) : running;
    }
    default:
      return undefined;
  }
}

const unknownPlace = { position: -1, estimatedWaitMs: 0, noWorker: false };

/** Jobs by id. */
export type KnownJobs = ReadonlyMap<string, JobEntry>;

/** A part of the server's list, from its newest job on. */
export interface Listing {
  readonly jobs: readonly Job[];
  /** Whether the list ends with it. */
  readonly isWhole: boolean;
  /** When it was asked for: an entry that was seen later is newer. */
  readonly askedAt: number;
  readonly nowMs: number;
}

/** Whether jobs may lie between a listing and those that were known before: more were created since than it holds. */
export function hasGap(known: KnownJobs, { jobs, isWhole }: Pick<Listing, "jobs" | "isWhole">): boolean {
  return !isWhole && known.size > 0 && !jobs.some(({ id }) => known.has(id));
}

/**
 * The known jobs after a look at the list. A job that the listing covers and lacks is deleted. A listing with a gap replaces what it does not
 * cover too.
 *
 * @param isWatched jobs whose own stream knows more than the list.
 * @param isGone jobs that were deleted after the listing was asked for.
 */
export function withListing(
  known: KnownJobs,
  listing: Listing,
  { isWatched, isGone }: { readonly isWatched: (id: string) => boolean; readonly isGone: (id: string) => boolean },
): KnownJobs {
  const { jobs, isWhole, askedAt, nowMs } = listing;
  const oldest = jobs.at(-1);
  // The server's order is finer than a millisecond, so a job of the oldest one's may come after it.
  const covers = (job: Job) => isWhole || oldest === undefined || createdMs(job) > createdMs(oldest);
  const stays = ({ job, seenAt }: JobEntry) => seenAt > askedAt || isWatched(job.id);
  const replaces = hasGap(known, listing);
  const next = new Map([...known].filter(([, entry]) => stays(entry) || !(replaces || covers(entry.job))));
  for (const job of jobs) {
    const before = known.get(job.id);
    if (!isGone(job.id) && !(before !== undefined && stays(before))) {
      next.set(job.id, entryOf(job, before, askedAt, nowMs));
    }
  }
  return next;
}

/** Entries as the list has them: the newest first. */
export function newestFirst(known: KnownJobs): readonly JobEntry[] {
  return [...known.values()].sort((a, b) => compareAge(a.job, b.job));
}

/** Below 0 if the first is newer. */
export function compareAge(a: Job, b: Job): number {
  return createdMs(b) - createdMs(a) || (a.id < b.id ? 1 : -1);
}

/** Milliseconds since 1970. */
export function createdMs({ createTime }: Job): number {
  return createTime === undefined ? 0 : timestampMs(createTime);
}

/** Ids of the jobs to watch: those that run, then those whose turn comes first. */
export function idsToWatch(entries: readonly JobEntry[], limit: number): readonly string[] {
  return entries
    .filter(({ job }) => isUnfinished(job))
    .map(({ job }) => ({ id: job.id, place: placeOf(job), created: createdMs(job) }))
    .sort((a, b) => a.place - b.place || a.created - b.created)
    .slice(0, limit)
    .map(({ id }) => id);
}

function placeOf({ state, detail }: Job): number {
  return state === JobState.RUNNING ? -1 : detail.case === "queued" ? detail.value.position : Number.MAX_SAFE_INTEGER;
}
