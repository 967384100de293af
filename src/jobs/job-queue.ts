import type { Db } from "pg-boss";
import { JobState } from "../gen/throughline/v1/job_pb.js";
import type { JobDatabase } from "./job-database.js";
import { type JobNotice, type OnJobChange, publishNotice, publishRow } from "./job-notices.js";
import { jobColumns as columns, idColumn, type JobProgress, type StoredJob, storedJobOf } from "./job-rows.js";
import { queueSchemaName } from "./job-schema.js";
import { affectedOf, endJob, openAppQueue, plainId, queueOf, table, uuidOf } from "./job-table.js";

/** An attempt that this process runs. pg-boss lets only the newest attempt of a job end it. */
export interface Claim {
  readonly id: string;
  readonly retryCount: number;
}

/** A claimed job. */
export interface ClaimedJob {
  readonly claim: Claim;
  readonly job: StoredJob;
  /** Whether another job of the app waits. */
  readonly moreWait: boolean;
}

/** Why there is no job to run. `ended`: the next one had ended; look again. */
export type NoClaim = "none-waits" | "all-busy" | "ended";

/** How an attempt ended. */
export interface Outcome {
  readonly state: JobState.SUCCEEDED | JobState.FAILED;
  readonly outcome: Uint8Array;
}

/** An attempt that did not end its job. */
export interface EndedAttempt {
  readonly enginesLost: number;
  /** `traceparent` of its span. Undefined: as noted before. */
  readonly traceparent: string | undefined;
}

/**
 * The jobs that are to be run, as the dispatcher needs them. Each change is one transaction, with its notification. All transactions lock the
 * queue's row before the job's, so that two cannot wait for each other.
 */
export interface JobQueue {
  /** Takes the next job of an app, unless `most` run already. */
  claim(app: string, most: number): Promise<ClaimedJob | NoClaim>;
  /** Keeps a claim. Returns false if the job was cancelled, deleted or given to another attempt. */
  keep(app: string, claim: Claim): Promise<boolean>;
  /** Stores the context of an attempt's span, for a link from the next one. */
  noteAttempt(id: string, traceparent: string): Promise<void>;
  /** Publishes progress; `stored` also writes it into the row. */
  reportProgress(notice: JobNotice & { readonly progress: JobProgress }, stored: boolean): Promise<void>;
  /** Ends a job. Returns false, and changes nothing, if the claim is not valid any more. */
  settle(app: string, claim: Claim, outcome: Outcome): Promise<boolean>;
  /** Gives a job back to the queue, with the context of the attempt's span. */
  giveBack(app: string, claim: Claim, attempt: EndedAttempt): Promise<boolean>;
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

/** `most` jobs of an app run already. Thrown in the transaction of a claim, which is then undone. */
class AllBusyError extends Error {
  override readonly name = "AllBusyError";
}

/** The claim is not valid any more. Thrown in the transaction that ends a job, which is then undone. */
class LostClaimError extends Error {
  override readonly name = "LostClaimError";
}

/** Tells when a command of pg-boss has sent its statement, so that the next one can follow in the same round trip. */
function noticeFirst(within: Db): { readonly sql: Db; readonly sent: Promise<void> } {
  let onSent = () => {};
  const sent = new Promise<void>((resolve) => {
    onSent = resolve;
  });
  const executeSql: Db["executeSql"] = (text, values) => {
    const result = within.executeSql(text, values);
    onSent();
    return result;
  };
  return { sql: { executeSql }, sent };
}

/**
 * Creates the queue over an open database.
 *
 * @param onChange called after each of its changes.
 */
export function createJobQueue(database: JobDatabase, onChange: OnJobChange = () => {}): JobQueue {
  const { sql, boss, transaction } = database;
  const changed = (job: StoredJob | undefined): void => {
    if (job !== undefined) {
      onChange({ id: job.id, app: job.app, job });
    }
  };

  const claimNext = (app: string, most: number) =>
    transaction(async (within): Promise<ClaimedJob | NoClaim> => {
      const [taken] = await boss.fetch(queueOf(app), { db: within, includeMetadata: true });
      if (taken === undefined) {
        return "none-waits";
      }
      const id = plainId(taken.id);
      // A lost claim only means another run, so nobody waits for the disk.
      const { rows } = await within.executeSql(
        `with running as (select count(*) as number from ${table} where app = $2 and state = 2), started as (
           update ${table} set state = 2, attempt = attempt + 1, start_time = now(), stage = 0, step = 0, total_steps = 0
           from running where id = $1 and state in (1, 2) and running.number < $3
           returning ${columns}, ${publishRow(database)}, set_config('synchronous_commit', 'off', true)
         ) select started.*, running.number >= $3 as all_busy,
           exists (select 1 from ${table} where app = $2 and state = 1 and id <> $1) as more_wait
         from running left join started on true`,
        [id, app, most],
      );
      const [found] = rows;
      if (found?.all_busy === true) {
        throw new AllBusyError("all workers of the app are busy");
      }
      if (found?.id == null) {
        await boss.deleteJob(queueOf(app), taken.id, { db: within });
        return "ended";
      }
      const claim = { id: taken.id, retryCount: taken.retryCount };
      return { claim, job: storedJobOf(found), moreWait: found.more_wait === true };
    });

  return {
    async claim(app, most) {
      await openAppQueue(database, app);
      try {
        const claimed = await claimNext(app, most);
        changed(typeof claimed === "string" ? undefined : claimed.job);
        return claimed;
      } catch (error) {
        if (error instanceof AllBusyError) {
          return "all-busy";
        }
        throw error;
      }
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
      await publishNotice(sql, { ...notice, from: database.origin });
    },

    async settle(app, claim, { state, outcome }) {
      try {
        const job = await transaction(async (within) => {
          const first = noticeFirst(within);
          const completing = boss.complete(queueOf(app), claim, null, { db: first.sql });
          // Not before: the queue's row is locked first.
          await Promise.race([first.sent, completing]);
          const [completed, ended] = await Promise.all([
            completing,
            endJob(database, within, { id: plainId(claim.id), state, outcome }),
          ]);
          // The fence: pg-boss completes the newest attempt only.
          if (affectedOf(completed) !== 1) {
            throw new LostClaimError("another attempt of the job has begun, or it has ended");
          }
          return ended;
        });
        changed(job);
        return job !== undefined;
      } catch (error) {
        if (error instanceof LostClaimError) {
          return false;
        }
        throw error;
      }
    },

    async giveBack(app, claim, { enginesLost, traceparent }) {
      const { isOurs, job } = await transaction(async (within) => {
        if (affectedOf(await boss.fail(queueOf(app), claim, null, { db: within })) !== 1) {
          return { isOurs: false, job: undefined };
        }
        const { rows } = await within.executeSql(
          `update ${table} set state = 1, engines_lost = engines_lost + $2, last_attempt = coalesce($3, last_attempt), stage = 0, step = 0,
             total_steps = 0
           where id = $1 and state = 2 returning ${columns}, ${publishRow(database)}`,
          [plainId(claim.id), enginesLost, traceparent ?? null],
        );
        return { isOurs: true, job: rows[0] && storedJobOf(rows[0]) };
      });
      changed(job);
      return isOurs;
    },

    async failOverdue(outcomeOf) {
      const jobs = await transaction(async (within) => {
        const { rows } = await within.executeSql(
          `select id, app from ${table} where state = 1 and attempt = 0 and start_by < now() limit 100`,
        );
        const ended: (StoredJob | undefined)[] = [];
        for (const { id, app } of rows) {
          const name = plainId(String(id));
          await boss.cancel(queueOf(String(app)), uuidOf(name), { db: within });
          ended.push(await endJob(database, within, { id: name, state: JobState.FAILED, outcome: outcomeOf(name) }));
        }
        return ended;
      });
      jobs.forEach(changed);
      return jobs.length;
    },

    async requeueAbandoned() {
      const { rows } = await sql.executeSql(
        `with abandoned as (
           select queued.id as queued_id from ${queueSchemaName}.job as queued
           join ${table} as job on queued.id = job.id and queued.name = 'job/' || job.app
           where job.state = 2 and queued.state = 'retry' for update of queued skip locked
         )
         update ${table} as job set state = 1, stage = 0, step = 0, total_steps = 0
         from abandoned where job.id = abandoned.queued_id and job.state = 2 returning ${columns}, ${publishRow(database)}`,
      );
      const jobs = rows.map(storedJobOf);
      jobs.forEach(changed);
      return jobs.length;
    },

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
