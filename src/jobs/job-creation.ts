import * as z from "zod";
import type { JobPriority } from "../gen/throughline/v1/job_pb.js";
import { findPlace } from "./fair-order.js";
import type { JobDatabase, Sql } from "./job-database.js";
import { publishRow } from "./job-notices.js";
import { placeAfter, placeOf, type QueuePlace } from "./job-places.js";
import { jobColumns as columns, type StoredJob, storedJobOf } from "./job-rows.js";
import { openAppQueue, queueOf, table, uuidOf } from "./job-table.js";
import type { Fingerprints } from "./payload-cipher.js";
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
  | { readonly kind: "created"; readonly job: StoredJob; readonly place: QueuePlace }
  | EarlierCreation
  /** Too many jobs wait: in all, or of this owner. */
  | { readonly kind: "full"; readonly of: "all" | "owner"; readonly limit: number };

/** Looks for the job of an earlier call with the same request id; undefined if there is none. */
export async function findRequest(
  sql: Sql,
  owner: string,
  request: IdentifiedRequest,
): Promise<EarlierCreation | undefined> {
  const { rows } = await sql.executeSql(
    `select ${columns}, request_hash from ${table} where owner = $1 and request_id = $2`,
    [owner, request.id],
  );
  if (rows[0] === undefined) {
    return undefined;
  }
  const stored = z.instanceof(Uint8Array).parse(rows[0].request_hash);
  return request.prints.some((print) => Buffer.compare(print, stored) === 0)
    ? { kind: "known", job: storedJobOf(rows[0]) }
    : { kind: "conflict" };
}

/** Stores a job and queues it, in one transaction with its notification, unless its request is known or the queue is full. */
export async function storeNewJob(database: JobDatabase, job: NewJob, limits: WaitingLimits): Promise<Creation> {
  const { boss, transaction } = database;
  await openAppQueue(database, job.app);
  return transaction(async (within): Promise<Creation> => {
    // One at a time: tags, bounds and request ids are read and written, the last two of all apps. The statements after this one see what the
    // creation before has committed.
    const [, found] = await Promise.all([
      within.executeSql("select pg_advisory_xact_lock(hashtext($1))", [`${table}.create`]),
      findPlace(within, { ...job, requestId: job.request?.id }),
    ]);
    const earlier = job.request && found.isKnownRequest && (await findRequest(within, job.owner, job.request));
    if (earlier) {
      return earlier;
    }
    if (found.waiting >= limits.all) {
      return { kind: "full", of: "all", limit: limits.all };
    }
    if (found.waitingOfOwner >= limits.perOwner) {
      return { kind: "full", of: "owner", limit: limits.perOwner };
    }
    const { tag, rank } = found;
    const made = within.executeSql(
      `with place as (${placeAfter({ app: "$6", rank: "$8", createTime: "now()", id: "$1" })}), made as (
         insert into ${table} (id, owner, caller, request_id, request_hash, app, state, class, rank, tag, cost_seconds, start_by,
           run_timeout_seconds, ttl_seconds, trace_id, trace_context, work, webhook, webhook_host)
         values ($1::uuid, $2, $3, $4, $5, $6::text, 1, $7, $8::integer, $9, $10, now() + $11 * interval '1 second', $12, $13, $14, $15, $16,
           $17, $18)
         returning ${columns}, ${publishRow(database)}
       ) select * from made, place`,
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
    const sent = boss.send(queueOf(job.app), {}, { id: uuidOf(job.id), priority: rank, db: within });
    const [{ rows }] = await Promise.all([made, sent]);
    return { kind: "created", job: storedJobOf(rows[0]), place: placeOf(rows[0]) };
  });
}
