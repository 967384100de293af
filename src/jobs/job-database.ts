import { randomBytes } from "node:crypto";
import type { PGlite, Transaction } from "@electric-sql/pglite";
import type { Db, PgBoss, QueueOptions } from "pg-boss";
import { migrateSchema, queueSchemaName } from "./job-schema.js";
import { createPostgresPool } from "./postgres-pool.js";

/** Runs SQL statements, inside a transaction or outside. */
export type Sql = Pick<Db, "executeSql">;

/** Database of the jobs: tables of ours, and the queue of pg-boss beside them. */
export interface JobDatabase {
  /** Runs single statements. */
  readonly sql: Sql;
  /** The queue. Pass a transaction's `sql` as its option `db`. */
  readonly boss: PgBoss;
  /** Hexadecimal digits that tell the notifications of this process from those of others. */
  readonly origin: string;
  /**
   * Runs `work` in one transaction, which is rolled back if it throws. Statements that are sent without waiting for each other run in their
   * order, in one round trip.
   */
  transaction<T>(work: (sql: Db) => Promise<T>): Promise<T>;
  /** Creates a queue of pg-boss, unless it exists. */
  openQueue(name: string, options: QueueOptions & { readonly deadLetter?: string }): Promise<void>;
  /**
   * Calls back with each payload of a channel. Each takes a connection of its own.
   *
   * @param onGap called when notifications may have been missed, such as after a lost connection.
   */
  listen(channel: string, onPayload: (payload: string) => void, onGap: () => void): Promise<void>;
  /** Stops the queue and closes the connections. Running statements may fail. */
  close(): Promise<void>;
}

/**
 * Longest time that an open transaction may wait for its next statement, in milliseconds. A pipeline that stands still, or whose network is
 * lost, would otherwise keep its locks, and all others from their jobs.
 */
const idleInTransactionMs = 5_000;

/**
 * Seconds between two looks for jobs of dead pipelines in an embedded database, which has one pipeline. Each look takes a tenth of a second of
 * its processor time.
 */
const embeddedSuperviseSeconds = 4;

/** Connections for statements. */
const statementConnections = 5;
/** Connections for pg-boss's own work: supervision, heartbeats, webhooks. One more listens. */
const queueConnections = 3;

/** Channel of the jobs' notifications. */
export const jobChannel = "throughline_job";
/** Channel of the messages between pipelines that are not about a job. */
export const peerChannel = "throughline_peer";

/** Options of {@link openJobDatabase}. */
export interface OpenJobDatabaseOptions {
  /** `postgres://…`, or an open PGlite. */
  readonly source: string | PGlite;
  /** Creates and updates the tables. If false, an older schema is an error. @default true */
  readonly migrate?: boolean | undefined;
  /** Called with errors of the queue's own work, such as a lost connection. */
  readonly onError: (error: unknown) => void;
}

/**
 * Opens the database and starts its queue.
 *
 * @throws JobSchemaError if the schema is newer than this version, or older and not to be updated; the driver's error if the database is not
 * reachable.
 */
export async function openJobDatabase(options: OpenJobDatabaseOptions): Promise<JobDatabase> {
  const { source, migrate = true, onError } = options;
  // Loaded here, because most pipelines have no jobs.
  const { PgBoss: Boss, fromPglite } = await import("pg-boss");
  const lite = typeof source === "string" ? undefined : source;
  const session = {
    connectionTimeoutMillis: 10_000,
    options: `-c idle_in_transaction_session_timeout=${idleInTransactionMs}`,
    application_name: "throughline",
  };
  const superviseSeconds = lite === undefined ? 1 : embeddedSuperviseSeconds;
  const boss = new Boss({
    ...(typeof source === "string"
      ? {
          connectionString: source,
          max: queueConnections,
          ...session,
        }
      : { db: fromPglite(source), backend: "pglite" as const }),
    schema: queueSchemaName,
    migrate,
    schedule: false,
    // Returns the jobs of a dead pipeline, and removes old rows.
    superviseIntervalSeconds: superviseSeconds,
    monitorIntervalSeconds: superviseSeconds,
    // The spans of jobs are ours. Its own has one for each look into the queue.
    openTelemetry: { enabled: false },
  });
  boss.on("error", onError);
  try {
    await boss.start();
  } catch (error) {
    await boss.stop({ graceful: false }).catch(() => {});
    // Another pipeline created the same schema at this moment.
    if (lite === undefined && isUniqueViolation(error)) {
      return openJobDatabase(options);
    }
    await lite?.close();
    throw error;
  }
  const db = boss.getDb();
  const listeners: { close(): Promise<void> }[] = [];

  const { sql, transaction, close } =
    typeof source === "string"
      ? await createPostgresPool({ connectionString: source, max: statementConnections, ...session }, onError)
      : {
          sql: db,
          transaction: <T>(work: (sql: Db) => Promise<T>) =>
            source.transaction((within) => work(ofPgliteTransaction(within))),
          close: async () => {},
        };

  const queues = new Map<string, Promise<void>>();
  const openQueue = (name: string, queueOptions: QueueOptions & { readonly deadLetter?: string }): Promise<void> => {
    const known = queues.get(name);
    if (known !== undefined) {
      return known;
    }
    const opened = boss.createQueue(name, queueOptions);
    opened.catch(() => queues.delete(name));
    queues.set(name, opened);
    return opened;
  };

  const database: JobDatabase = {
    sql,
    boss,
    origin: randomBytes(8).toString("hex"),
    transaction,
    openQueue,
    async listen(channel, onPayload, onGap) {
      const listening = await db.listen?.(channel, onPayload, onGap);
      if (listening !== undefined) {
        listeners.push(listening);
      }
    },
    async close() {
      await Promise.allSettled(listeners.map((listening) => listening.close()));
      await boss.stop({ graceful: false, close: true });
      await close();
      await lite?.close();
    },
  };
  try {
    await migrateSchema(sql, transaction, migrate);
  } catch (error) {
    await database.close();
    throw error;
  }
  return database;
}

function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "23505";
}

/** PGlite runs several statements without parameters by `exec` only. */
function ofPgliteTransaction(within: Transaction): Db {
  return {
    async executeSql(text, values) {
      if (values !== undefined && values.length > 0) {
        return within.query(text, [...values]);
      }
      const results = await within.exec(text);
      return { rows: results.flatMap(({ rows }) => rows) };
    },
  };
}
