import * as z from "zod";
import { JobPriority, JobState } from "../gen/throughline/v1/job_pb.js";

/** A job as it is stored. Payloads are sealed. */
export interface StoredJob {
  /** 32 hexadecimal digits. */
  readonly id: string;
  /** Name of its owner; empty without access control. */
  readonly owner: string;
  /** Fairness key of the caller. */
  readonly caller: string;
  readonly app: string;
  readonly state: JobState;
  readonly priority: JobPriority;
  readonly createTime: Date;
  readonly startTime: Date | undefined;
  readonly endTime: Date | undefined;
  readonly expireTime: Date | undefined;
  readonly runTimeoutSeconds: number;
  /** Attempts that have started. */
  readonly attempt: number;
  /** Engines that died while they ran the job. */
  readonly enginesLost: number;
  readonly traceId: string;
  /** Carrier of the span `send`. */
  readonly traceContext: Readonly<Record<string, string>>;
  /** `traceparent` of the last attempt's span `process`. */
  readonly lastAttempt: string | undefined;
  readonly progress: JobProgress;
  readonly work: Uint8Array;
  /** Result of a succeeded job, error of a failed one. */
  readonly outcome: Uint8Array | undefined;
  readonly webhook: Uint8Array | undefined;
  /** Host of the webhook, with its port unless that is 443. */
  readonly webhookHost: string | undefined;
}

/** Progress of a running job, with the contract's numbers. */
export interface JobProgress {
  readonly stage: number;
  readonly step: number;
  readonly totalSteps: number;
}

/** Columns that {@link storedJobOf} reads. */
export const jobColumns = `id, owner, caller, app, state, class, create_time, start_time, end_time, expire_time, run_timeout_seconds,
  attempt, engines_lost, trace_id, trace_context, last_attempt, stage, step, total_steps, work, outcome, webhook, webhook_host`;

const optional = <T extends z.ZodType>(type: T) => type.nullable().transform((value) => value ?? undefined);
const bytes = z.instanceof(Uint8Array);

/** An id in the database's form, without its dashes. */
export const idColumn = z.string().transform((id) => id.replaceAll("-", ""));

const jobRow = z
  .object({
    id: idColumn,
    owner: z.string(),
    caller: z.string(),
    app: z.string(),
    state: z.enum(JobState),
    class: z.enum(JobPriority),
    create_time: z.date(),
    start_time: optional(z.date()),
    end_time: optional(z.date()),
    expire_time: optional(z.date()),
    run_timeout_seconds: z.number(),
    attempt: z.number(),
    engines_lost: z.number(),
    trace_id: z.string(),
    trace_context: z.record(z.string(), z.string()),
    last_attempt: optional(z.string()),
    stage: z.number(),
    step: z.number(),
    total_steps: z.number(),
    work: bytes,
    outcome: optional(bytes),
    webhook: optional(bytes),
    webhook_host: optional(z.string()),
  })
  .transform(
    (row): StoredJob => ({
      id: row.id,
      owner: row.owner,
      caller: row.caller,
      app: row.app,
      state: row.state,
      priority: row.class,
      createTime: row.create_time,
      startTime: row.start_time,
      endTime: row.end_time,
      expireTime: row.expire_time,
      runTimeoutSeconds: row.run_timeout_seconds,
      attempt: row.attempt,
      enginesLost: row.engines_lost,
      traceId: row.trace_id,
      traceContext: row.trace_context,
      lastAttempt: row.last_attempt,
      progress: { stage: row.stage, step: row.step, totalSteps: row.total_steps },
      work: row.work,
      outcome: row.outcome,
      webhook: row.webhook,
      webhookHost: row.webhook_host,
    }),
  );

/** Reads a row of the jobs' table. */
export function storedJobOf(row: unknown): StoredJob {
  return jobRow.parse(row);
}

/** Whether a job has no final state yet. */
export function isUnfinished({ state }: Pick<StoredJob, "state">): boolean {
  return state === JobState.QUEUED || state === JobState.RUNNING;
}

/** Whether a row of a job is from before another one of the same job. */
export function isOlder(one: StoredJob, other: StoredJob): boolean {
  return ageOf(one) < ageOf(other);
}

/** A job waits, runs as an attempt, waits again after it, and so on to its end. */
function ageOf(job: StoredJob): number {
  if (!isUnfinished(job)) {
    return Number.POSITIVE_INFINITY;
  }
  return 2 * job.attempt + (job.state === JobState.RUNNING ? 0 : 1);
}
