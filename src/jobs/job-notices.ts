import * as z from "zod";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import { type JobDatabase, jobChannel, type Sql } from "./job-database.js";
import { isUnfinished, type JobProgress, type StoredJob } from "./job-rows.js";

/**
 * Notification about a job, for all processes: a change of its row, or its progress alone. The process that made it acts on its own changes
 * when they have committed ({@link JobChange}), and ignores their notifications.
 */
export interface JobNotice {
  readonly id: string;
  readonly app: string;
  /** State to which a change led; null for a deleted job. Absent with progress, and from older versions. */
  readonly state?: JobState | null | undefined;
  /** Absent: read the row. */
  readonly progress?: JobProgress | undefined;
  /** `JobDatabase.origin` of its process. */
  readonly from?: string | undefined;
}

/** A change that this process has committed. */
export interface JobChange {
  readonly id: string;
  readonly app: string;
  /** Undefined: it was deleted. */
  readonly job: StoredJob | undefined;
}

/** Called after each change that this process commits. */
export type OnJobChange = (change: JobChange) => void;

/**
 * SQL expression that publishes the change of a row. In the `returning` of the statement that makes the change, it costs no round trip of its
 * own.
 *
 * @param state SQL expression of the new state; `null` for a deleted job.
 */
export function publishRow({ origin }: JobDatabase, state = "job.state"): string {
  return `pg_notify('${jobChannel}', json_build_object(
    'id', replace(job.id::text, '-', ''), 'app', job.app, 'state', ${state}, 'from', '${origin}')::text)`;
}

/** Publishes a notification with which no row changes, such as progress. */
export async function publishNotice(sql: Sql, notice: JobNotice): Promise<void> {
  await sql.executeSql("select pg_notify($1, $2)", [jobChannel, JSON.stringify(notice)]);
}

const noticeSchema = z.object({
  id: z.string(),
  app: z.string(),
  state: z.enum(JobState).nullish(),
  progress: z.object({ stage: z.number(), step: z.number(), totalSteps: z.number() }).optional(),
  from: z.string().optional(),
});

/** Reads a notification. */
export function readNotice(payload: string): JobNotice {
  return noticeSchema.parse(JSON.parse(payload));
}

/** Whether a change may let a waiting job start: it waits itself, or no longer needs its worker. */
export function mayStartJobs(state: JobState | null | undefined): boolean {
  return state !== JobState.RUNNING;
}

/** Whether a job has ended or was deleted; also if the notification does not say. */
export function mayHaveEnded(state: JobState | null | undefined): boolean {
  return state == null || !isUnfinished({ state });
}
