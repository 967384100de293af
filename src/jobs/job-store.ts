import * as z from "zod";
import { type JobPriority, JobState } from "../gen/throughline/v1/job_pb.js";
import { findPlace } from "./fair-order.js";
import type { JobDatabase, Sql } from "./job-database.js";
import { jobColumns as columns, idColumn, isUnfinished, type StoredJob, storedJobOf } from "./job-rows.js";
import { queueSchemaName, schemaName } from "./job-schema.js";
import { deadWebhookQueue, endJob, notify, openAppQueue, queueOf, table, uuidOf } from "./job-table.js";
import { type Fingerprints, sealedHeadBytes } from "./payload-cipher.js";
import type { WaitingLimits } from "./waiting-limits.js";

/** A job to be stored. */
export interface NewJob {
  readonly id: string;
  readonly owner: string;
  readonly caller: string;
  readonly app: string;
  readonly priority: JobPriority;
  readonly costSeconds: number;
  /** Undefined: each call makes a new job. */
  readonly request: IdentifiedRequest | undefined;
  readonly startTimeoutSeconds: number | undefined;
  readonly runTimeoutSeconds: number;
  readonly ttlSeconds: number;
  readonly traceId: string;
  readonly traceContext: Readonly<Record<string, string>>;
  readonly work: Uint8Array;
  readonly webhook: Uint8Array | undefined;
  readonly webhookHost: string | undefined;
}

/** A request that its caller may repeat. */
export interface IdentifiedRequest {
  readonly id: string;
  readonly prints: Fingerprints;
}

/** What an earlier call with a request's id made of it. */
export type EarlierCreation =
  /** The same request was created before. */
  | { readonly kind: "known"; readonly job: StoredJob }
  /** Another request has its request id. */
  | { readonly kind: "conflict" };

/** What became of a new job. */
export type Creation =
  | { readonly kind: "created"; readonly job: StoredJob }
  | EarlierCreation
  /** Too many jobs wait: in all, or of this owner. */
  | { readonly kind: "full"; readonly of: "all" | "owner"; readonly limit: number };

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
  /** Waiting jobs before each of these, and their work. */
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
}

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

export interface JobCounts {
  readonly waiting: number;
  readonly running: number;
  /** Age of the oldest waiting job, in seconds. */
  readonly oldestSeconds: number;
  readonly deadWebhooks: number;
}

/** The places of all waiting jobs, and the work that is left of the running ones. */
const places = `
  with places as (
    select id, app, row_number() over line - 1 as ahead, sum(cost_seconds) over line - cost_seconds as seconds
    from ${table} where state = 1 window line as (partition by app order by rank desc, create_time, id)
  ), running as (
    select app, sum(greatest(0, cost_seconds - extract(epoch from now() - start_time))) as seconds
    from ${table} where state = 2 group by app
  )`;
const secondsAhead = "places.seconds + coalesce(running.seconds, 0)";

function placeOf({ ahead, seconds }: Readonly<Record<string, unknown>>): QueuePlace {
  return { ahead: Number(ahead), secondsAhead: Number(seconds) };
}

/** Creates the store over an open database. */
export function createJobStore(database: JobDatabase): JobStore {
  const { sql, boss, transaction } = database;
  const row = async (within: Sql, id: string): Promise<StoredJob | undefined> => {
    const { rows } = await within.executeSql(`select ${columns} from ${table} where id = $1`, [id]);
    return rows[0] && storedJobOf(rows[0]);
  };
  const findRequest = async (
    within: Sql,
    owner: string,
    { id, prints }: IdentifiedRequest,
  ): Promise<EarlierCreation | undefined> => {
    const { rows } = await within.executeSql(
      `select ${columns}, request_hash from ${table} where owner = $1 and request_id = $2`,
      [owner, id],
    );
    if (rows[0] === undefined) {
      return undefined;
    }
    const stored = z.instanceof(Uint8Array).parse(rows[0].request_hash);
    return prints.some((print) => Buffer.compare(print, stored) === 0)
      ? { kind: "known", job: storedJobOf(rows[0]) }
      : { kind: "conflict" };
  };

  return {
    async create(job, limits) {
      await openAppQueue(database, job.app);
      return transaction(async (within): Promise<Creation> => {
        // One at a time: tags, bounds and request ids are read and written, the last two of all apps.
        await within.executeSql("select pg_advisory_xact_lock(hashtext($1))", [`${table}.create`]);
        const earlier = job.request && (await findRequest(within, job.owner, job.request));
        if (earlier !== undefined) {
          return earlier;
        }
        const { rows: counts } = await within.executeSql(
          `select count(*)::int as all, (count(*) filter (where owner = $1))::int as own from ${table} where state = 1`,
          [job.owner],
        );
        if (Number(counts[0]?.all) >= limits.all) {
          return { kind: "full", of: "all", limit: limits.all };
        }
        if (Number(counts[0]?.own) >= limits.perOwner) {
          return { kind: "full", of: "owner", limit: limits.perOwner };
        }
        const { tag, rank } = await findPlace(within, job);
        const { rows } = await within.executeSql(
          `insert into ${table} (id, owner, caller, request_id, request_hash, app, state, class, rank, tag, cost_seconds, start_by,
             run_timeout_seconds, ttl_seconds, trace_id, trace_context, work, webhook, webhook_host)
           values ($1, $2, $3, $4, $5, $6, 1, $7, $8, $9, $10, now() + $11 * interval '1 second', $12, $13, $14, $15, $16, $17, $18)
           returning ${columns}`,
          [
            job.id,
            job.owner,
            job.caller,
            job.request?.id ?? null,
            job.request?.prints[0] ?? null,
            job.app,
            job.priority,
            rank,
            tag,
            job.costSeconds,
            job.startTimeoutSeconds ?? null,
            job.runTimeoutSeconds,
            job.ttlSeconds,
            job.traceId,
            JSON.stringify(job.traceContext),
            job.work,
            job.webhook ?? null,
            job.webhookHost ?? null,
          ],
        );
        await boss.send(queueOf(job.app), {}, { id: uuidOf(job.id), priority: rank, db: within });
        await notify(within, { id: job.id, app: job.app });
        return { kind: "created", job: storedJobOf(rows[0]) };
      });
    },

    findRequest: (owner, request) => findRequest(sql, owner, request),

    read: (id) => row(sql, id),

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

    cancel: (id) =>
      transaction(async (within) => {
        const job = await row(within, id);
        if (job === undefined || !isUnfinished(job)) {
          return job;
        }
        await boss.cancel(queueOf(job.app), uuidOf(id), { db: within });
        return (
          (await endJob(database, within, { id, state: JobState.CANCELLED, outcome: undefined })) ?? row(within, id)
        );
      }),

    delete: (id) =>
      transaction(async (within) => {
        const job = await row(within, id);
        if (job !== undefined) {
          await boss.deleteJob(queueOf(job.app), uuidOf(id), { db: within });
          await within.executeSql(`delete from ${table} where id = $1`, [id]);
          await notify(within, { id, app: job.app });
        }
        return job;
      }),

    async positions(ids) {
      const { rows } = await sql.executeSql(
        `${places} select places.id, places.ahead, ${secondsAhead} as seconds
         from places left join running using (app) where places.id = any($1::uuid[])`,
        [[...ids]],
      );
      return new Map(rows.map((found) => [idColumn.parse(found.id), placeOf(found)]));
    },

    async survey(ids) {
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
    },

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
  };
}
