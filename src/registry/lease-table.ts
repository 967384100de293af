import { isIP } from "node:net";
import * as z from "zod";
import { appIdPattern } from "../mesh/app-id.js";
import type { Lease } from "./leases.js";

/** Statements on the database that pipelines share. */
export interface LeaseSql {
  executeSql(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}

/** The database that pipelines share: the one of their jobs. */
export interface LeaseDatabase {
  readonly sql: LeaseSql;
  transaction<T>(work: (sql: LeaseSql) => Promise<T>): Promise<T>;
  /** Calls back with each payload of a channel, and when payloads may have been missed. */
  listen(channel: string, onPayload: (payload: string) => void, onGap: () => void): Promise<void>;
}

/** A lease of another pipeline, as of the last read. */
export interface SharedLease extends Lease {
  /**
   * By the database's clock: `live`; `expired` if its pipeline has not renewed it in time; `ended` if the worker or its pipeline has ended it.
   */
  readonly state: "live" | "expired" | "ended";
}

/** Channel on which pipelines report changes of their leases. The payload is the pipeline's id. */
export const leaseChannel = "throughline_lease";

/** Rows are deleted an hour after their end. Until then, their app is known. */
const keptInterval = "interval '1 hour'";

const table = "throughline.lease";

/** Creates the table unless it exists, once for all pipelines that start at the same time. */
export async function createLeaseTable({
  sql,
  transaction,
}: Pick<LeaseDatabase, "sql" | "transaction">): Promise<void> {
  const { rows } = await sql.executeSql("select to_regclass($1) is not null as known", [table]);
  if (z.object({ known: z.boolean() }).parse(rows[0]).known) {
    return;
  }
  await transaction(async (within) => {
    // That of the jobs' tables, whose schema this one is in.
    await within.executeSql("select pg_advisory_xact_lock(hashtext($1))", ["throughline.schema"]);
    // Another pipeline may have created it meanwhile, which the session's cache of names would not tell.
    await within.executeSql(`
      create schema if not exists throughline;
      create table if not exists ${table} (
        app text not null,
        host text not null,
        port integer not null,
        -- Pipeline at which the worker is registered. A worker registers at several.
        pipeline text not null,
        version text not null,
        expire_time timestamptz not null,
        ended boolean not null default false,
        primary key (app, host, port, pipeline)
      );
    `);
  });
}

/** Writes leases of a pipeline with their full time. */
export async function writeLeases(
  sql: LeaseSql,
  pipeline: string,
  leases: readonly Lease[],
  leaseMs: number,
): Promise<void> {
  await sql.executeSql(
    `insert into ${table} as lease (app, host, port, version, pipeline, expire_time)
     select app, host, port, version, $5, now() + $6 * interval '1 millisecond'
     from unnest($1::text[], $2::text[], $3::integer[], $4::text[]) as given (app, host, port, version)
     on conflict (app, host, port, pipeline) do update
       set version = excluded.version, expire_time = excluded.expire_time, ended = false`,
    [...columnsOf(leases), leases.map(({ version }) => version), pipeline, leaseMs],
  );
}

/** Ends leases of a pipeline. */
export async function endLeases(sql: LeaseSql, pipeline: string, leases: readonly Lease[]): Promise<void> {
  await sql.executeSql(
    `update ${table} as lease set ended = true, expire_time = now()
     from unnest($1::text[], $2::text[], $3::integer[]) as given (app, host, port)
     where lease.app = given.app and lease.host = given.host and lease.port = given.port and lease.pipeline = $4`,
    [...columnsOf(leases), pipeline],
  );
}

function columnsOf(leases: readonly Lease[]): unknown[] {
  return [leases.map(({ appId }) => appId), leases.map(({ host }) => host), leases.map(({ port }) => port)];
}

/** Reports a change to the other pipelines. */
export async function notifyLeases(sql: LeaseSql, pipeline: string): Promise<void> {
  await sql.executeSql("select pg_notify($1, $2)", [leaseChannel, pipeline]);
}

const rowSchema = z.object({
  app: z.string().regex(appIdPattern),
  host: z.string().refine((host) => isIP(host) !== 0),
  port: z.number().int().min(1).max(65_535),
  version: z.string(),
  state: z.enum(["live", "expired", "ended"]),
});

/** Reads the leases of other pipelines, those that ended within the last hour included. @param limit maximum number. */
export async function readLeases(sql: LeaseSql, pipeline: string, limit: number): Promise<readonly SharedLease[]> {
  const { rows } = await sql.executeSql(
    `select app, host, port, version,
       case when ended then 'ended' when expire_time > now() then 'live' else 'expired' end as state
     from ${table} where pipeline <> $1 and expire_time > now() - ${keptInterval}
     order by expire_time desc limit $2`,
    [pipeline, limit],
  );
  return rows.flatMap((row) => {
    // One wrong row must not hide the others.
    const { data } = rowSchema.safeParse(row);
    if (data === undefined) {
      return [];
    }
    const { app, ...lease } = data;
    return [{ appId: app, ...lease }];
  });
}

/** Deletes the rows of leases that ended more than an hour ago. */
export async function deleteOldLeases(sql: LeaseSql): Promise<void> {
  await sql.executeSql(`delete from ${table} where expire_time < now() - ${keptInterval}`);
}
