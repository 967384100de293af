import * as z from "zod";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import { createBatchedRead } from "./batched-read.js";
import {
  type Creation,
  type EarlierCreation,
  findRequest,
  type IdentifiedRequest,
  type NewJob,
  storeNewJob,
} from "./job-creation.js";
import type { JobDatabase, Sql } from "./job-database.js";
import { type OnJobChange, publishRow } from "./job-notices.js";
import { type QueuePlace, readPlace, readPlaces, type SurveyedJob, surveyJobs } from "./job-places.js";
import { jobColumns as columns, idColumn, isUnfinished, type StoredJob, storedJobOf } from "./job-rows.js";
import { queueSchemaName, schemaName } from "./job-schema.js";
import { deadWebhookQueue, endJob, queueOf, table, uuidOf } from "./job-table.js";
import { sealedHeadBytes } from "./payload-cipher.js";
import { createTurns } from "./take-turns.js";
import type { WaitingLimits } from "./waiting-limits.js";

/** A page of an owner's jobs. */
export interface JobQuery {
  readonly owner: string;
  readonly limit: number;
  readonly states: readonly JobState[];
  /** Empty: all. */
  readonly app: string;
  /** Position after which the page starts. */
  readonly after: PagePosition | undefined;
}

/** Position of a job in a list. */
export interface PagePosition {
  /** Microseconds since 1970, the database's precision, in decimal digits. */
  readonly createTime: string;
  readonly id: string;
}

export interface JobPage {
  readonly jobs: readonly StoredJob[];
  /** Undefined on the last page. */
  readonly next: PagePosition | undefined;
}

/** Rows of the jobs, and their places in the queue. Each change is one transaction, with its notification. */
export interface JobStore {
  create(job: NewJob, limits: WaitingLimits): Promise<Creation>;
  /** Looks for the job of an earlier call with the same request id; undefined if there is none. */
  findRequest(owner: string, request: IdentifiedRequest): Promise<EarlierCreation | undefined>;
  read(id: string): Promise<StoredJob | undefined>;
  list(query: JobQuery): Promise<JobPage>;
  /** Cancels a job that has no final state. Returns the job. */
  cancel(id: string): Promise<StoredJob | undefined>;
  /** Deletes a job. */
  delete(id: string): Promise<StoredJob | undefined>;
  /** Place of a job, if it waits. */
  place(id: string): Promise<QueuePlace | undefined>;
  /** Places of those of these jobs that wait. */
  positions(ids: readonly string[]): Promise<ReadonlyMap<string, QueuePlace>>;
  /** State of each of these jobs that exists, in one query, with the place of those that wait. */
  survey(ids: readonly string[]): Promise<ReadonlyMap<string, SurveyedJob>>;
  /** Id of the database, 32 hexadecimal digits. */
  databaseId(): Promise<string>;
  /** Which of these jobs exist. */
  existing(ids: readonly string[]): Promise<ReadonlySet<string>>;
  /** The different heads of the stored payloads, which name their keys. */
  payloadHeads(): Promise<readonly Uint8Array[]>;
  /** Counts of all apps. */
  counts(): Promise<JobCounts>;
  /** Waiting and running jobs by app. */
  unfinished(): Promise<ReadonlyMap<string, number>>;
}

export interface JobCounts {
  readonly waiting: number;
  readonly running: number;
  /** Age of the oldest waiting job, in seconds. */
  readonly oldestSeconds: number;
  readonly deadWebhooks: number;
}

/** Creations that may hold a connection: they wait for each other, and the others need connections too. */
const creationsAtOnce = 2;

/**
 * Creates the store over an open database.
 *
 * @param onChange called after each of its changes.
 */
export function createJobStore(database: JobDatabase, onChange: OnJobChange = () => {}): JobStore {
  const { sql, boss, transaction } = database;
  const inTurn = createTurns(creationsAtOnce);
  const row = async (within: Sql, id: string): Promise<StoredJob | undefined> => {
    const { rows } = await within.executeSql(`select ${columns} from ${table} where id = $1`, [id]);
    return rows[0] && storedJobOf(rows[0]);
  };
  const read = createBatchedRead(async (ids) => {
    const { rows } = await sql.executeSql(`select ${columns} from ${table} where id = any($1::uuid[])`, [[...ids]]);
    return new Map(rows.map(storedJobOf).map((job) => [job.id, job]));
  });

  return {
    async create(job, limits) {
      const creation = await inTurn(() => storeNewJob(database, job, limits));
      if (creation.kind === "created") {
        onChange({ id: job.id, app: job.app, job: creation.job });
      }
      return creation;
    },

    findRequest: (owner, request) => findRequest(sql, owner, request),

    read,

    async list({ owner, limit, states, app, after }) {
      const { rows } = await sql.executeSql(
        `select ${columns}, (extract(epoch from create_time) * 1000000)::bigint::text as position from ${table}
         where owner = $1 and ($2::smallint[] = '{}' or state = any($2::smallint[])) and ($3 = '' or app = $3)
           and ($4::bigint is null or (create_time, id) < (timestamptz 'epoch' + $4::bigint * interval '1 microsecond', $5::uuid))
         order by create_time desc, id desc limit $6`,
        [owner, [...states], app, after?.createTime ?? null, after?.id ?? null, limit + 1],
      );
      const last = rows.length > limit ? rows[limit - 1] : undefined;
      return {
        jobs: rows.slice(0, limit).map(storedJobOf),
        next: last && { createTime: z.string().parse(last.position), id: idColumn.parse(last.id) },
      };
    },

    async cancel(id) {
      const { job, cancelled } = await transaction(async (within) => {
        const job = await row(within, id);
        if (job === undefined || !isUnfinished(job)) {
          return { job, cancelled: undefined };
        }
        await boss.cancel(queueOf(job.app), uuidOf(id), { db: within });
        const cancelled = await endJob(database, within, { id, state: JobState.CANCELLED, outcome: undefined });
        return { job: cancelled ?? (await row(within, id)), cancelled };
      });
      if (cancelled !== undefined) {
        onChange({ id, app: cancelled.app, job: cancelled });
      }
      return job;
    },

    async delete(id) {
      const job = await transaction(async (within) => {
        const job = await row(within, id);
        if (job !== undefined) {
          await boss.deleteJob(queueOf(job.app), uuidOf(id), { db: within });
          await within.executeSql(`delete from ${table} where id = $1 returning ${publishRow(database, "null")}`, [id]);
        }
        return job;
      });
      if (job !== undefined) {
        onChange({ id, app: job.app, job: undefined });
      }
      return job;
    },

    place: (id) => readPlace(sql, id),
    positions: (ids) => readPlaces(sql, ids),
    survey: (ids) => surveyJobs(sql, ids),

    async databaseId() {
      const { rows } = await sql.executeSql(`select id from ${schemaName}.database`);
      return idColumn.parse(rows[0]?.id);
    },

    async existing(ids) {
      const { rows } = await sql.executeSql(`select id from ${table} where id = any($1::uuid[])`, [[...ids]]);
      return new Set(rows.map(({ id }) => idColumn.parse(id)));
    },

    async payloadHeads() {
      // Plaintext has no key.
      const { rows } = await sql.executeSql(
        `select distinct substring(payload from 1 for ${sealedHeadBytes}) as head
         from ${table}, unnest(array[work, outcome, webhook]) as payload where get_byte(payload, 0) <> 0`,
      );
      return rows.map(({ head }) => z.instanceof(Uint8Array).parse(head));
    },

    async counts() {
      const { rows } = await sql.executeSql(
        `select (count(*) filter (where state = 1))::int as waiting, (count(*) filter (where state = 2))::int as running,
           coalesce(extract(epoch from now() - min(create_time) filter (where state = 1)), 0) as oldest
         from ${table} where state in (1, 2)`,
      );
      const { rows: dead } = await sql.executeSql(
        `select count(*)::int as count from ${queueSchemaName}.job where name = $1 and state = 'created'`,
        [deadWebhookQueue],
      );
      return {
        waiting: Number(rows[0]?.waiting ?? 0),
        running: Number(rows[0]?.running ?? 0),
        oldestSeconds: Number(rows[0]?.oldest ?? 0),
        deadWebhooks: Number(dead[0]?.count ?? 0),
      };
    },

    async unfinished() {
      const { rows } = await sql.executeSql(
        `select app, count(*)::int as count from ${table} where state in (1, 2) group by app`,
      );
      return new Map(rows.map(({ app, count }) => [String(app), Number(count)]));
    },
  };
}
