import type { Db } from "pg-boss";

/** Schema of the jobs' table. */
export const schemaName = "throughline";
/** Schema of pg-boss's tables. */
export const queueSchemaName = "throughline_queue";

/** The schema of the database does not fit this version. */
export class JobSchemaError extends Error {
  override readonly name = "JobSchemaError";
}

/** Statements that lead from each version to the next. Never change one: add another. */
const migrations: readonly string[] = [
  `
  create table ${schemaName}.job (
    id uuid primary key,
    -- Name of its owner; empty without access control.
    owner text not null,
    -- Key for fair turns between owners.
    caller text not null,
    request_id text,
    request_hash bytea,
    app text not null,
    state smallint not null,
    class smallint not null,
    -- Place in the queue: see fair-order.ts.
    rank integer not null,
    tag double precision not null,
    cost_seconds double precision not null,
    create_time timestamptz not null default now(),
    start_by timestamptz,
    start_time timestamptz,
    end_time timestamptz,
    expire_time timestamptz,
    run_timeout_seconds integer not null,
    ttl_seconds integer not null,
    attempt integer not null default 0,
    -- Engines that died while they ran it.
    engines_lost integer not null default 0,
    trace_id text not null default '',
    -- Context of the span send, and of the last attempt's span process.
    trace_context jsonb not null default '{}',
    last_attempt text,
    stage smallint not null default 0,
    step integer not null default 0,
    total_steps integer not null default 0,
    -- Sealed: see payload-cipher.ts.
    work bytea not null,
    outcome bytea,
    webhook bytea
  );
  create unique index job_request on ${schemaName}.job (owner, request_id) where request_id is not null;
  create index job_of_owner on ${schemaName}.job (owner, create_time desc, id desc);
  create index job_unfinished on ${schemaName}.job (app, rank desc, create_time, id) where state in (1, 2);
  create index job_expiry on ${schemaName}.job (expire_time) where expire_time is not null;
  `,
  `
  -- Tells the job folders of this database from those of another one in the same image folder.
  create table ${schemaName}.database (id uuid not null default gen_random_uuid());
  insert into ${schemaName}.database default values;
  -- Host of the webhook, whose URL is sealed: each host gets a bounded number at a time.
  alter table ${schemaName}.job add column webhook_host text;
  `,
];

/** All statements, for tests that keep a database. */
export const migrationsText = migrations.join("");

/**
 * Creates or updates the tables, once for all pipelines that start at the same time.
 *
 * @throws JobSchemaError if the schema is newer than this version, or older and `update` is false.
 */
export async function migrateSchema(
  db: Pick<Db, "executeSql">,
  transaction: (work: (sql: Db) => Promise<void>) => Promise<void>,
  update: boolean,
): Promise<void> {
  const found = await readVersion(db);
  if (found > migrations.length) {
    throw new JobSchemaError(
      `the jobs' database has schema version ${found}, and this version of throughline knows ${migrations.length}: update throughline, or use another database`,
    );
  }
  if (found === migrations.length) {
    return;
  }
  if (!update) {
    throw new JobSchemaError(
      `the jobs' database has schema version ${found}, and this version of throughline needs ${migrations.length}: run \`throughline jobs migrate\``,
    );
  }
  await transaction(async (sql) => {
    await sql.executeSql("select pg_advisory_xact_lock(hashtext($1))", [`${schemaName}.schema`]);
    await sql.executeSql(`
      create schema if not exists ${schemaName};
      create table if not exists ${schemaName}.schema_version (version integer not null);
    `);
    const { rows } = await sql.executeSql(`select version from ${schemaName}.schema_version`);
    const version = Number(rows[0]?.version ?? 0);
    for (const statements of migrations.slice(version)) {
      await sql.executeSql(statements);
    }
    await sql.executeSql(`delete from ${schemaName}.schema_version`);
    await sql.executeSql(`insert into ${schemaName}.schema_version values ($1)`, [migrations.length]);
  });
}

async function readVersion(sql: Pick<Db, "executeSql">): Promise<number> {
  const { rows } = await sql.executeSql("select to_regclass($1) is not null as known", [
    `${schemaName}.schema_version`,
  ]);
  if (rows[0]?.known !== true) {
    return 0;
  }
  const { rows: versions } = await sql.executeSql(`select version from ${schemaName}.schema_version`);
  return Number(versions[0]?.version ?? 0);
}
