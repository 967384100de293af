import type { Db } from "pg-boss";
import * as z from "zod";
import type { JobState } from "../gen/throughline/v1/job_pb.js";
import type { JobDatabase } from "./job-database.js";
import { publishRow } from "./job-notices.js";
import { jobColumns as columns, type StoredJob, storedJobOf } from "./job-rows.js";
import { schemaName } from "./job-schema.js";

/** Name of the jobs' table. */
export const table = `${schemaName}.job`;

/** Seconds without a heartbeat after which an attempt counts as dead: pg-boss's minimum. */
const heartbeatSeconds = 10;
/** Longest accepted attempt, above the contract's longest `run_timeout`. */
const expireSeconds = 2 * 3600;
/** Jobs wait as long as they need to: `start_timeout` is ours, because pg-boss deletes without a word. */
const waitSeconds = 10 * 365 * 24 * 3600;
/** The fence needs the queue's row as long as a late attempt may come. */
const keepEndedSeconds = 3600;

/** Options of an app's queue. */
const queueOptions = {
  retryLimit: 100_000,
  retryDelay: 0,
  heartbeatSeconds,
  expireInSeconds: expireSeconds,
  retentionSeconds: waitSeconds,
  deleteAfterSeconds: keepEndedSeconds,
};

/** Name of an app's queue. */
export function queueOf(app: string): string {
  return `job/${app}`;
}

/** Creates the queue of an app, unless it exists. */
export function openAppQueue({ openQueue }: JobDatabase, app: string): Promise<void> {
  return openQueue(queueOf(app), queueOptions);
}

/** Queue of webhooks, and that of those which failed for good. */
export const webhookQueue = "webhook";
export const deadWebhookQueue = "webhook-dead";

/** Final state of a job. */
export interface EndedJob {
  readonly id: string;
  readonly state: JobState;
  readonly outcome: Uint8Array | undefined;
}

/** Sets a final state, with all that goes with it. */
export async function endJob(
  database: JobDatabase,
  within: Db,
  { id, state, outcome }: EndedJob,
): Promise<StoredJob | undefined> {
  const { rows } = await within.executeSql(
    `update ${table} set state = $2, outcome = $3, end_time = now(), expire_time = now() + ttl_seconds * interval '1 second'
       where id = $1 and state in (1, 2) returning ${columns}, ${publishRow(database)}`,
    [id, state, outcome ?? null],
  );
  const job = rows[0] && storedJobOf(rows[0]);
  if (job?.webhook !== undefined) {
    const group = job.webhookHost === undefined ? {} : { group: { id: job.webhookHost } };
    await database.boss.send(webhookQueue, { id }, { ...group, db: within });
  }
  return job;
}

const commandResponse = z.object({ affected: z.number() });

/** Number of jobs that a command of pg-boss changed. Its types leave the field out. */
export function affectedOf(response: unknown): number {
  return commandResponse.parse(response).affected;
}

/** An id of pg-boss without its dashes. */
export function plainId(id: string): string {
  return id.replaceAll("-", "");
}

/** The form of a UUID that pg-boss accepts. */
export function uuidOf(id: string): string {
  return id.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
