import { JobPriority } from "../gen/throughline/v1/job_pb.js";
import type { Sql } from "./job-database.js";
import { schemaName } from "./job-schema.js";

/** Place of a new job in its app's queue. */
export interface FairPlace {
  /** Virtual start time, in seconds of estimated work. */
  readonly tag: number;
  /** Higher ranks start first; equal ones in the order of their creation. Also the priority in pg-boss. */
  readonly rank: number;
}

/** Distance between two classes, so that a higher class always starts first. */
const classDistance = 2 ** 28;
/** Ranks of one second of work. */
const ranksPerSecond = 10;

const classes: Record<JobPriority, number> = {
  [JobPriority.UNSPECIFIED]: 0,
  [JobPriority.LOW]: -1,
  [JobPriority.NORMAL]: 0,
  [JobPriority.HIGH]: 1,
};

/** Returns the rank of a tag in a class. */
export function rankOf(priority: JobPriority, tag: number): number {
  const below = Math.min(Math.round(tag * ranksPerSecond), classDistance - 1);
  return classes[priority] * classDistance - below;
}

/** A job to be placed. */
export interface PlacedWork {
  readonly app: string;
  readonly owner: string;
  readonly caller: string;
  readonly priority: JobPriority;
  readonly requestId: string | undefined;
}

/** The queue before a new job, and that job's place. */
export interface FoundPlace extends FairPlace {
  /** Waiting jobs of all apps. */
  readonly waiting: number;
  readonly waitingOfOwner: number;
  /** Whether the owner has a job with the request id. */
  readonly isKnownRequest: boolean;
}

/**
 * Finds the place of a new job by start-time fair queueing (Goyal et al. 1996): its tag is the later of the queue's virtual time, and of the
 * tag of its caller's last job plus that job's work. A caller with many jobs thus delays another caller's next job by at most one of its own
 * for each worker, which is the one that runs.
 *
 * The virtual time is the smallest tag that runs, or else waits. Call it in the transaction that inserts the job, under the lock of creations.
 * It reads all that a creation depends on, in one pass over the unfinished jobs.
 */
export async function findPlace(
  sql: Sql,
  { app, owner, caller, priority, requestId }: PlacedWork,
): Promise<FoundPlace> {
  const { rows } = await sql.executeSql(
    `select greatest(
       coalesce(min(tag) filter (where app = $1 and state = 2), min(tag) filter (where app = $1 and state = 1), 0),
       coalesce(max(tag + cost_seconds) filter (where app = $1 and caller = $2), 0)
     ) as tag,
     count(*) filter (where state = 1) as waiting,
     count(*) filter (where state = 1 and owner = $3) as waiting_of_owner,
     exists (select 1 from ${schemaName}.job where owner = $3 and request_id = $4) as is_known_request
     from ${schemaName}.job where state in (1, 2)`,
    [app, caller, owner, requestId ?? null],
  );
  const tag = Number(rows[0]?.tag ?? 0);
  return {
    tag,
    rank: rankOf(priority, tag),
    waiting: Number(rows[0]?.waiting ?? 0),
    waitingOfOwner: Number(rows[0]?.waiting_of_owner ?? 0),
    isKnownRequest: rows[0]?.is_known_request === true,
  };
}
