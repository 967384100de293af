import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, suite, test } from "node:test";
import { JobPriority, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { type JobDatabase, openJobDatabase } from "../../src/jobs/job-database.js";
import { createJobStore } from "../../src/jobs/job-store.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { runInProcess } from "../cli/support/run-in-process.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { fillDisk } from "../jobs/suites/full-disk.js";
import { describeRuns } from "../jobs/suites/runs.js";
import { describeService } from "../jobs/suites/service.js";
import { withSharedMesh } from "../jobs/suites/shared-mesh.js";
import { describeTrace } from "../jobs/suites/trace.js";
import { describeWebhooks } from "../jobs/suites/webhooks.js";
import { createHeldEngine } from "../support/held-engine.js";
import { type JobMesh, lastOf, startJobMesh } from "../support/job-mesh.js";
import { type Postgres, startPostgres, whyNoPostgres } from "../support/postgres.js";
import { describeKeda } from "./keda.js";
import { describeLimits } from "./limits.js";
import { describeOutages } from "./outages.js";
import { describeRegistry } from "./registry.js";

/** Jobs on a PostgreSQL server, which the suite starts in a temporary folder. Skipped where PostgreSQL is not installed. */
suite("jobs on PostgreSQL", { skip: whyNoPostgres }, () => {
  let postgres: Postgres;
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres?.remove());

  const create = async ({ jobs }: JobMesh, prompt: string): Promise<string> => {
    const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt } } });
    return job?.id ?? assert.fail("no job");
  };

  withSharedMesh(
    (shared) => {
      describeTrace(shared);
      describeService(shared);
      describeRuns(shared);
      describeWebhooks(shared);
    },
    () => postgres.createDatabase(),
  );

  test("a transaction that stands still loses its locks", async () => {
    const database = await openJobDatabase({ source: await postgres.createDatabase(), onError: () => {} });
    const lock = "select pg_advisory_xact_lock(1)";
    let resume = (): void => {};
    let stopped: Promise<unknown> = Promise.resolve();
    await new Promise<void>((held) => {
      stopped = database.transaction(async (sql) => {
        await sql.executeSql(lock);
        held();
        await new Promise<void>((resolve) => {
          resume = resolve;
        });
        await sql.executeSql("select 1");
      });
    });
    await database.transaction((sql) => sql.executeSql(lock));
    resume();
    await assert.rejects(stopped, /idle-in-transaction timeout/);
    await database.close();
  });

  test("jobs go on when another version changes the tables under prepared statements", async () => {
    const mesh = await startJobMesh({ source: await postgres.createDatabase() });
    const run = async (prompt: string) => (await lastOf(mesh, { id: await create(mesh, prompt) })).state;
    try {
      for (let index = 0; index < 3; index++) {
        assert.equal(await run("before"), JobState.SUCCEEDED);
      }
      const { sql } = mesh.database;
      assert.equal((await sql.executeSql("select * from throughline.database where id is not null")).rows.length, 1);
      await sql.executeSql("alter table throughline.job add column later text");
      await sql.executeSql("alter table throughline.database add column later text");
      // The server rejects the old plan once; a new connection has a new one.
      const read = () => sql.executeSql("select * from throughline.database where id is not null");
      const [row] = (await read().catch(read)).rows;
      assert.ok(row && "later" in row);
      assert.equal(await run("after"), JobState.SUCCEEDED);
    } finally {
      await mesh.stop();
    }
  });

  test("statements without end do not fill the server with prepared ones", async () => {
    const database = await openJobDatabase({ source: await postgres.createDatabase(), onError: () => {} });
    try {
      const prepared = await database.transaction(async (sql) => {
        for (let index = 0; index < 300; index++) {
          await sql.executeSql(`select ${index} as number`);
        }
        const { rows } = await sql.executeSql("select count(*)::int as count from pg_prepared_statements");
        return Number(rows[0]?.count);
      });
      assert.ok(prepared > 100 && prepared <= 200, `${prepared}`);
    } finally {
      await database.close();
    }
  });

  test("statements that are sent together run in their order, and none of them counts if one fails", async () => {
    const database = await openJobDatabase({ source: await postgres.createDatabase(), onError: () => {} });
    try {
      await database.sql.executeSql("create table numbers (number int primary key)");
      const insert = (sql: Pick<typeof database.sql, "executeSql">, number: number) =>
        sql.executeSql("insert into numbers values ($1)", [number]);
      await database.transaction((sql) =>
        Promise.all([insert(sql, 1), sql.executeSql("update numbers set number = number + 1"), insert(sql, 1)]),
      );
      await assert.rejects(
        database.transaction((sql) => Promise.allSettled([insert(sql, 3), insert(sql, 1), insert(sql, 4)])),
        /duplicate key/,
        "also if the work itself does not throw",
      );
      await assert.rejects(
        database.transaction(async (sql) => Promise.all([insert(sql, 5), insert(sql, 1)])),
        {
          code: "23505",
        },
      );
      const { rows } = await database.sql.executeSql("select number from numbers order by number");
      assert.deepEqual(rows, [{ number: 1 }, { number: 2 }]);
    } finally {
      await database.close();
    }
  });

  suite("creations for several apps at a time", () => {
    const apps = ["acme/a", "acme/b", "acme/c", "acme/d"];
    let database: JobDatabase;
    before(async () => {
      database = await openJobDatabase({ source: await postgres.createDatabase(), onError: () => {} });
    });
    after(() => database?.close());

    /** As a pipeline stores them. `body` stands for the whole request. */
    const kindsOf = async (jobs: readonly { readonly app: string; readonly body: string }[], perOwner: number) => {
      const store = createJobStore(database);
      const made = await Promise.all(
        jobs.map(({ app, body }) =>
          store.create(
            {
              id: randomBytes(16).toString("hex"),
              owner: "anna",
              caller: "anna",
              app,
              priority: JobPriority.NORMAL,
              costSeconds: 1,
              request: body === "" ? undefined : { id: "r", prints: [Buffer.from(body)] },
              startTimeoutSeconds: undefined,
              runTimeoutSeconds: 60,
              ttlSeconds: 60,
              traceId: "",
              traceContext: {},
              work: Buffer.of(0),
              webhook: undefined,
              webhookHost: undefined,
            },
            { all: 1_000, perOwner },
          ),
        ),
      );
      await database.sql.executeSql("delete from throughline.job");
      return made.map(({ kind }) => kind).toSorted();
    };

    test("with one request id make one job", async () => {
      for (let round = 0; round < 5; round++) {
        const kinds = await kindsOf(
          apps.map((app) => ({ app, body: app })),
          1_000,
        );
        assert.deepEqual(kinds, ["conflict", "conflict", "conflict", "created"]);
      }
    });

    test("do not pass the bound of their caller", async () => {
      const kinds = await kindsOf(
        Array.from({ length: 40 }, (_, at) => ({ app: apps[at % apps.length] ?? "", body: "" })),
        10,
      );
      assert.equal(kinds.filter((kind) => kind === "created").length, 10);
      assert.equal(kinds.filter((kind) => kind === "full").length, 30);
    });
  });

  suite("of two pipelines with one database", () => {
    let one: JobMesh;
    let other: JobMesh;
    const held = createHeldEngine(2);
    const engine = createFakeEngine();
    before(async () => {
      const source = await postgres.createDatabase();
      const folder = await temporaryFolder();
      // Both migrate at the same time.
      [one, other] = await Promise.all([
        startJobMesh({ source, folder, engines: [held.engine] }),
        startJobMesh({ source, folder, engines: [engine] }),
      ]);
    });
    after(() => Promise.all([one?.stop(), other?.stop()]));

    test("a job that one runs is seen, watched and cancelled through the other", async () => {
      // A job mostly runs where it was created, but the other may take it: jobs are created until the held engine has one.
      let id = "";
      let isHeld = false;
      void held.reached.then(() => {
        isHeld = true;
      });
      while (!isHeld) {
        id = await create(one, "held");
        await Promise.race([held.reached, lastOf(other, { id })]);
      }
      const steps = new Set<number>();
      let last: JobState | undefined;
      for await (const { job } of other.jobs.watchJob({ id })) {
        last = job?.state;
        if (job?.detail.case === "progress") {
          steps.add(job.detail.value.step);
          assert.equal(job.detail.value.preview.length, 0, "previews stay in the pipeline that runs the job");
          await other.jobs.cancelJob({ id });
        }
      }
      assert.ok(steps.size > 0);
      assert.equal(last, JobState.CANCELLED);
      held.release();
      assert.equal((await one.jobs.getJob({ id })).job?.state, JobState.CANCELLED);
    });

    test("forty jobs run once each, on the workers of both", async () => {
      held.release();
      const before = held.engine.generations + engine.generations;
      const ids = await Promise.all(
        Array.from({ length: 40 }, (_, index) => create(index % 2 === 0 ? one : other, `job ${index}`)),
      );
      const ends = await Promise.all(ids.map((id, index) => lastOf(index % 2 === 0 ? other : one, { id })));
      assert.deepEqual(new Set(ends.map(({ state }) => state)), new Set([JobState.SUCCEEDED]));
      assert.equal(held.engine.generations + engine.generations - before, 40);
      for (const { detail } of ends) {
        assert.ok(detail.case === "result");
        assert.equal((await fetch(detail.value.image?.url ?? "")).status, 200);
      }
    });
  });

  describeOutages(() => postgres);
  describeLimits(() => postgres);
  describeRegistry(() => postgres);
  describeKeda(() => postgres);

  test("a job whose image does not fit onto the disk runs again, and succeeds once there is space", async (t) => {
    const mesh = await startJobMesh({ source: await postgres.createDatabase() });
    try {
      await fillDisk(t, 1);
      const done = await lastOf(mesh, { id: await create(mesh, "no space at first") });
      assert.deepEqual([done.state, done.attempt], [JobState.SUCCEEDED, 2]);
      assert.ok(done.detail.case === "result");
      assert.equal((await fetch(done.detail.value.image?.url ?? "")).status, 200);
      const names = await readdir(join(mesh.folder, "jobs", done.id));
      assert.equal(names.filter((name) => !name.startsWith("database-")).length, 1, "no half of the first is left");
    } finally {
      await mesh.stop();
    }
  });

  test("an older schema is updated with its jobs, which then run", async () => {
    const source = await postgres.createDatabase();
    const { engine, reached } = createHeldEngine();
    const held = await startJobMesh({ source, engines: [engine] });
    await create(held, "runs");
    await reached;
    const waiting = await create(held, "waits");
    await held.stop();
    // As version 1 had it.
    await postgres.query(
      source,
      `drop table throughline.database; alter table throughline.job drop column webhook_host;
       update throughline.schema_version set version = 1`,
    );
    await assert.rejects(
      openJobDatabase({ source, migrate: false, onError: () => {} }),
      /run `throughline jobs migrate`/,
    );
    const mesh = await startJobMesh({ source });
    try {
      assert.equal(JobState[(await lastOf(mesh, { id: waiting })).state], "SUCCEEDED");
    } finally {
      await mesh.stop();
    }
  });

  test("a newer schema, an older one that is not to be migrated, and a wrong URL are errors with a remedy", async () => {
    const source = await postgres.createDatabase();
    const open = (migrate: boolean) => openJobDatabase({ source, migrate, onError: () => {} });
    await assert.rejects(open(false));
    const migrated = await runInProcess(["jobs", "migrate", "--jobs", source]);
    assert.deepEqual([migrated.code, migrated.stdout], [0, "the jobs' database is up to date\n"]);
    await (await open(false)).close();
    const again = await runInProcess(["jobs", "migrate", "--jobs", source]);
    assert.deepEqual([again.code, again.stdout], [0, "the jobs' database is up to date\n"]);
    assert.equal((await postgres.query(source, "select version from throughline.schema_version")).length, 1);
    assert.equal((await postgres.query(source, "select id from throughline.database")).length, 1);

    await postgres.query(source, "update throughline.schema_version set version = version + 1");
    const newer = await runInProcess(["jobs", "migrate", "--jobs", source]);
    assert.equal(newer.code, 1);
    const update = /schema version \d+, and this version of throughline knows \d+: update throughline, or use another/;
    assert.match(newer.message, update);
    const started = await runInProcess([
      ...["pipeline", "--port", "0", "--worker", "acme/worker=127.0.0.1:1", "--jobs", source],
      ...["--images", await temporaryFolder()],
    ]);
    assert.deepEqual([started.code, started.stdout], [1, ""]);
    assert.match(started.message, update);

    for (const [url, reason] of [
      [postgres.urlOf("nothing"), /cannot open the jobs' database nothing at 127\.0\.0\.1:\d+: .*does not exist/],
      [source.replace("test@", "stranger:secret@"), /role "stranger" does not exist/],
      ["postgres://test@no-such-host.invalid/jobs", /jobs at no-such-host\.invalid: .*ENOTFOUND|EAI_AGAIN/],
    ] as const) {
      const { code, message } = await runInProcess(["jobs", "migrate", "--jobs", url]);
      assert.equal(code, 1, url);
      assert.match(message, reason);
      assert.match(message, /Check that it runs and that --jobs names it/);
      assert.doesNotMatch(message, /secret/);
    }
  });
});
