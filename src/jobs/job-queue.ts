import { JobState } from "../gen/throughline/v1/job_pb.js";
import type { JobDatabase } from "./job-database.js";
import { jobColumns as columns, idColumn, type JobProgress, type StoredJob, storedJobOf } from "./job-rows.js";
import { queueSchemaName } from "./job-schema.js";
import {
  affectedOf,
  endJob,
  type JobNotice,
  notify,
  openAppQueue,
  plainId,
  queueOf,
  table,
  uuidOf,
} from "./job-table.js";

/** An attempt that this process runs. pg-boss lets only the newest attempt of a job end it. */
export interface Claim {
  readonly id: string;
  readonly retryCount: number;
}

/** A claimed job. */
export interface ClaimedJob {
  readonly claim: Claim;
  readonly job: StoredJob;
}

/** How an attempt ended. */
export interface Outcome {
  readonly state: JobState.SUCCEEDED | JobState.FAILED;
  readonly outcome: Uint8Array;
}

/**
 * The jobs that are to be run, as the dispatcher needs them. Each change is one transaction, with its notification. All transactions lock the
 * queue's row before the job's, so that two cannot wait for each other.
 */
export interface JobQueue {
  /** Takes the next job of an app, unless `most` run already. */
  claim(app: string, most: number): Promise<ClaimedJob | undefined>;
  /** Keeps a claim. Returns false if the job was cancelled, deleted or given to another attempt. */
  keep(app: string, claim: Claim): Promise<boolean>;
  /** Stores the context of an attempt's span, for a link from the next one. */
  noteAttempt(id: string, traceparent: string): Promise<void>;
  /** Publishes progress; `stored` also writes it into the row. */
  reportProgress(notice: JobNotice & { readonly progress: JobProgress }, stored: boolean): Promise<void>;
  /** Ends a job. Returns false, and changes nothing, if the claim is not valid any more. */
  settle(app: string, claim: Claim, outcome: Outcome): Promise<boolean>;
  /** Gives a job back to the queue. */
  giveBack(app: string, claim: Claim, enginesLost: number): Promise<boolean>;
  /** Fails the jobs that waited too long. Returns their number. */
  failOverdue(outcomeOf: (id: string) => Uint8Array): Promise<number>;
  /** Puts the jobs of dead pipelines back into the queue, once pg-boss has given up their attempts. Returns their number. */
  requeueAbandoned(): Promise<number>;
  /** Deletes the jobs whose time is over. Returns their ids. */
  deleteExpired(): Promise<readonly string[]>;
  /** Whether a job exists. */
  has(id: string): Promise<boolean>;
  /** Apps with jobs that wait. */
  waitingApps(): Promise<readonly string[]>;
}

/** Creates the queue over an open database. */
export function createJobQueue(database: JobDatabase): JobQueue {
  const { sql, boss, transaction } = database;
  return {
    async claim(app, most) {
      await openAppQueue(database, app);
      return transaction(async (within) => {
        const { rows } = await within.executeSql(
          `select count(*)::int as running from ${table} where app = $1 and state = 2`,
          [app],
        );
        if (Number(rows[0]?.running) >= most) {
          return undefined;
        }
        const [taken] = await boss.fetch(queueOf(app), { db: within, includeMetadata: true });
        if (taken === undefined) {
          return undefined;
        }
        const id = plainId(taken.id);
        const { rows: started } = await within.executeSql(
          `update ${table} set state = 2, attempt = attempt + 1, start_time = now(), stage = 0, step = 0, total_steps = 0
           where id = $1 and state in (1, 2) returning ${columns}`,
          [id],
        );
        if (started[0] === undefined) {
          await boss.deleteJob(queueOf(app), taken.id, { db: within });
          return undefined;
        }
        await notify(within, { id, app });
        return { claim: { id: taken.id, retryCount: taken.retryCount }, job: storedJobOf(started[0]) };
      });
    },

    async keep(app, claim) {
      return affectedOf(await boss.touch(queueOf(app), claim)) === 1;
    },

    async noteAttempt(id, traceparent) {
      await sql.executeSql(`update ${table} set last_attempt = $2 where id = $1`, [id, traceparent]);
    },

    async reportProgress(notice, stored) {
      const { stage, step, totalSteps } = notice.progress;
      if (stored) {
        await sql.executeSql(
          `update ${table} set stage = $2, step = $3, total_steps = $4 where id = $1 and state = 2`,
          [notice.id, stage, step, totalSteps],
        );
      }
      await notify(sql, notice);
    },

    settle: (app, claim, { state, outcome }) =>
      transaction(async (within) => {
        // The fence: pg-boss completes the newest attempt only.
        if (affectedOf(await boss.complete(queueOf(app), claim, null, { db: within })) !== 1) {
          return false;
        }
        return (await endJob(database, within, { id: plainId(claim.id), state, outcome })) !== undefined;
      }),

    giveBack: (app, claim, enginesLost) =>
      transaction(async (within) => {
        if (affectedOf(await boss.fail(queueOf(app), claim, null, { db: within })) !== 1) {
          return false;
        }
        const id = plainId(claim.id);
        await within.executeSql(
          `update ${table} set state = 1, engines_lost = engines_lost + $2, stage = 0, step = 0, total_steps = 0
           where id = $1 and state = 2`,
          [id, enginesLost],
        );
        await notify(within, { id, app });
        return true;
      }),

    failOverdue: (outcomeOf) =>
      transaction(async (within) => {
        const { rows } = await within.executeSql(
          `select id, app from ${table} where state = 1 and attempt = 0 and start_by < now() limit 100`,
        );
        for (const { id, app } of rows) {
          const name = plainId(String(id));
          await boss.cancel(queueOf(String(app)), uuidOf(name), { db: within });
          await endJob(database, within, { id: name, state: JobState.FAILED, outcome: outcomeOf(name) });
        }
        return rows.length;
      }),

    requeueAbandoned: () =>
      transaction(async (within) => {
        const { rows } = await within.executeSql(
          `with abandoned as (
             select queued.id from ${queueSchemaName}.job as queued
             join ${table} as job on queued.id = job.id and queued.name = 'job/' || job.app
             where job.state = 2 and queued.state = 'retry' for update of queued skip locked
           )
           update ${table} as job set state = 1, stage = 0, step = 0, total_steps = 0
           from abandoned where job.id = abandoned.id and job.state = 2
           returning job.id, job.app`,
        );
        for (const { id, app } of rows) {
          await notify(within, { id: plainId(String(id)), app: String(app) });
        }
        return rows.length;
      }),

    async deleteExpired() {
      const { rows } = await sql.executeSql(
        `delete from ${table} where id in (select id from ${table} where expire_time < now() limit 100) returning id`,
      );
      return rows.map(({ id }) => idColumn.parse(id));
    },

    async has(id) {
      const { rows } = await sql.executeSql(`select 1 from ${table} where id = $1`, [id]);
      return rows.length > 0;
    },

    async waitingApps() {
      const { rows } = await sql.executeSql(`select distinct app from ${table} where state = 1`);
      return rows.map(({ app }) => String(app));
    },
  };
}
