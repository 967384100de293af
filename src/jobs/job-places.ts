import type { JobState } from "../gen/throughline/v1/job_pb.js";
import type { Sql } from "./job-database.js";
import { idColumn } from "./job-rows.js";
import { table } from "./job-table.js";

/** Place of a waiting job. */
export interface QueuePlace {
  /** Waiting jobs of the app before it. */
  readonly ahead: number;
  /** Estimated work of those, and of the running ones what is left, in seconds. */
  readonly secondsAhead: number;
}

/** A job as it stands among the others. */
export interface SurveyedJob {
  readonly state: JobState;
  readonly attempt: number;
  /** Undefined for a job that does not wait. */
  readonly place: QueuePlace | undefined;
}

/** Work that is left of a running job. */
const secondsLeft = "greatest(0, cost_seconds - extract(epoch from now() - start_time))";

/** The places of all waiting jobs, and the work that is left of the running ones. */
const places = `
  with places as (
    select id, app, row_number() over line - 1 as ahead, sum(cost_seconds) over line - cost_seconds as seconds
    from ${table} where state = 1 window line as (partition by app order by rank desc, create_time, id)
  ), running as (
    select app, sum(${secondsLeft}) as seconds from ${table} where state = 2 group by app
  )`;
const secondsAhead = "places.seconds + coalesce(running.seconds, 0)";

/**
 * SQL query of the place behind all jobs before one, without a sort of all.
 *
 * @param own SQL expressions of the job's columns.
 */
export function placeAfter(own: Readonly<Record<"app" | "rank" | "createTime" | "id", string>>): string {
  return `select count(*) filter (where state = 1) as ahead,
      coalesce(sum(case state when 1 then cost_seconds else ${secondsLeft} end), 0) as seconds
    from ${table} where app = ${own.app} and (state = 2 or state = 1 and rank >= ${own.rank}
      and (rank > ${own.rank} or (create_time, id) < (${own.createTime}, ${own.id})))`;
}

/** Reads `ahead` and `seconds` of a row. */
export function placeOf({ ahead, seconds }: Readonly<Record<string, unknown>>): QueuePlace {
  return { ahead: Number(ahead), secondsAhead: Number(seconds) };
}

/** Place of one job, if it waits. */
export async function readPlace(sql: Sql, id: string): Promise<QueuePlace | undefined> {
  const own = { app: "own.app", rank: "own.rank", createTime: "own.create_time", id: "own.id" };
  const { rows } = await sql.executeSql(
    `select place.* from ${table} as own, lateral (${placeAfter(own)}) as place where own.id = $1 and own.state = 1`,
    [id],
  );
  return rows[0] && placeOf(rows[0]);
}

/** Places of those of these jobs that wait. */
export async function readPlaces(sql: Sql, ids: readonly string[]): Promise<ReadonlyMap<string, QueuePlace>> {
  const { rows } = await sql.executeSql(
    `${places} select places.id, places.ahead, ${secondsAhead} as seconds
     from places left join running using (app) where places.id = any($1::uuid[])`,
    [[...ids]],
  );
  return new Map(rows.map((found) => [idColumn.parse(found.id), placeOf(found)]));
}

/** State of each of these jobs that exists, in one query, with the place of those that wait. */
export async function surveyJobs(sql: Sql, ids: readonly string[]): Promise<ReadonlyMap<string, SurveyedJob>> {
  const { rows } = await sql.executeSql(
    `${places} select job.id, job.state, job.attempt, places.ahead, ${secondsAhead} as seconds
     from ${table} as job left join places on places.id = job.id left join running on running.app = job.app
     where job.id = any($1::uuid[])`,
    [[...ids]],
  );
  return new Map(
    rows.map((found) => {
      const place = found.ahead === null ? undefined : placeOf(found);
      return [idColumn.parse(found.id), { state: Number(found.state), attempt: Number(found.attempt), place }];
    }),
  );
}
