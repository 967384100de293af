import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { setImmediate } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { openJobDatabase } from "../../src/jobs/job-database.js";
import { createJobPayloads } from "../../src/jobs/job-payloads.js";
import { createJobQueue } from "../../src/jobs/job-queue.js";
import { createPayloadCipher } from "../../src/jobs/payload-cipher.js";
import { runInProcess } from "../cli/support/run-in-process.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createHeldEngine } from "../support/held-engine.js";
import { type JobMesh, jobApp, lastOf, startJobMesh } from "../support/job-mesh.js";
import type { Postgres } from "../support/postgres.js";

async function createJob({ jobs }: JobMesh, prompt: string): Promise<string> {
  const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt } } });
  return job?.id ?? assert.fail("no job");
}

/** Resolves when the mesh has logged a message. */
async function untilLogged({ lines }: JobMesh, message: string): Promise<void> {
  while (!lines.some((line) => line.includes(message))) {
    await setImmediate();
  }
}

/** @param server the running server, once the tests have begun. */
export function describeOutages(server: () => Postgres): void {
  suite("without the server, or without a connection to it", () => {
    test("the server is away for a while: calls say so, watches go on, and nothing is lost", async () => {
      const postgres = server();
      const source = await postgres.createDatabase();
      const held = createHeldEngine(2);
      const mesh = await startJobMesh({ source, engines: [held.engine] });
      try {
        const running = await createJob(mesh, "runs");
        await held.reached;
        const waiting = await createJob(mesh, "waits");
        const watches = [running, waiting].map((id) => mesh.jobs.watchJob({ id })[Symbol.asyncIterator]());
        await Promise.all(watches.map((watch) => watch.next()));
        await postgres.end("SIGINT");
        const unavailable = { code: 14, rawMessage: "the jobs are not available at the moment" };
        await assert.rejects(createJob(mesh, "away"), unavailable);
        await assert.rejects(mesh.jobs.getJob({ id: running }), unavailable);
        await assert.rejects(lastOf(mesh, { id: running }), unavailable);
        // The run ends while the database is away, and its result is kept until it is back.
        held.release();
        await untilLogged(mesh, "the end of a job cannot be stored yet");
        await postgres.start();
        for (const watch of watches) {
          let last: JobState | undefined;
          for (let next = await watch.next(); !next.done; next = await watch.next()) {
            last = next.value.job?.state;
          }
          assert.equal(last, JobState.SUCCEEDED);
        }
        assert.equal((await lastOf(mesh, { id: await createJob(mesh, "after") })).state, JobState.SUCCEEDED);
        assert.deepEqual(held.begun, ["runs", "waits", "after"], "each ran once");
        assert.ok(!mesh.lines.some((line) => line.includes(new URL(source).href)));
      } finally {
        await mesh.stop();
      }
    });

    test("the server is away when a pipeline starts: it says so and ends, and the next start runs the jobs", async () => {
      const postgres = server();
      const source = await postgres.createDatabase();
      const folder = await temporaryFolder();
      const held = createHeldEngine(2);
      const first = await startJobMesh({ source, folder, engines: [held.engine] });
      const ids = [await createJob(first, "runs"), await createJob(first, "waits")];
      await held.reached;
      await first.stop();
      await postgres.end("SIGINT");
      const away = await runInProcess(["pipeline", "--port", "0", "--jobs", source, "--images", folder]);
      assert.equal(away.code, 1);
      assert.match(
        away.message,
        /^cannot open the jobs' database jobs\d+ at 127\.0\.0\.1:\d+: .*ECONNREFUSED.*Check that it runs and that --jobs names it/,
      );
      await postgres.start();
      const second = createHeldEngine(2);
      second.release();
      const mesh = await startJobMesh({ source, folder, engines: [second.engine] });
      try {
        for (const id of ids) {
          assert.equal((await lastOf(mesh, { id })).state, JobState.SUCCEEDED);
        }
        assert.deepEqual(second.begun, ["runs", "waits"]);
      } finally {
        await mesh.stop();
      }
    });

    test("the connection of LISTEN is lost alone: a new one brings progress and the end of a job elsewhere", async () => {
      const source = await server().createDatabase();
      const held = createHeldEngine(2);
      const mesh = await startJobMesh({ source, engines: [held.engine] });
      // Another pipeline, as far as the first one can see.
      const database = await openJobDatabase({ source, migrate: false, onError: () => {} });
      const queue = createJobQueue(database);
      try {
        await createJob(mesh, "runs here");
        await held.reached;
        const id = await createJob(mesh, "runs elsewhere");
        const claimed = await queue.claim(jobApp, 2);
        assert.ok(typeof claimed === "object");
        assert.equal(claimed.job.id, id);

        const updates = mesh.jobs.watchJob({ id })[Symbol.asyncIterator]();
        await updates.next();
        const listening = async (): Promise<readonly number[]> => {
          const { rows } = await database.sql.executeSql(
            `select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
               and query ~ '^LISTEN|pg_listening_channels' and state = 'idle'`,
          );
          return rows.map(({ pid }) => Number(pid));
        };
        const [lost, ...more] = await listening();
        assert.deepEqual(more, []);
        await database.sql.executeSql("select pg_terminate_backend($1)", [lost]);
        for (let now = await listening(); now.length === 0 || now[0] === lost; now = await listening()) {
          await setImmediate();
        }

        // Progress comes by notifications alone.
        const progress = { stage: Stage.DENOISING, step: 3, totalSteps: 4 };
        await queue.reportProgress({ id, app: jobApp, progress }, false);
        let last = await updates.next();
        while (!(last.value?.job?.detail.case === "progress" && last.value.job.detail.value.step === 3)) {
          assert.ok(!last.done);
          last = await updates.next();
        }
        const outcome = createJobPayloads(createPayloadCipher([])).sealResult(id, create(GenerateResponseSchema));
        assert.ok(await queue.settle(jobApp, claimed.claim, { state: JobState.SUCCEEDED, outcome }));
        for (last = await updates.next(); last.value?.job?.state === JobState.RUNNING; last = await updates.next()) {
          // The new connection may have read the running job again.
        }
        assert.equal(last.value?.job?.state, JobState.SUCCEEDED);
        assert.equal((await updates.next()).done, true);
      } finally {
        held.release();
        await mesh.stop();
        await database.close();
      }
    });
  });
}
