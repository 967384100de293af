import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, suite, type TestContext, test } from "node:test";
import { createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Job, JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { type RunningCommand, startCommand } from "../cli/support/run-command.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { jobApp, lastOf } from "../support/job-mesh.js";
import { type Postgres, startPostgres, whyNoPostgres } from "../support/postgres.js";
import { startWorkerProcess, type WorkerProcess } from "./worker-process.js";

/** What jobs promise, with processes that are killed: SIGKILL of the pipeline, the worker, the engine and the database. */

const readyAt = /is ready at (http:\/\/127\.0\.0\.1:(\d+))$/m;
/** A test that hangs is named, and the others run. */
const limit = { timeout: 90_000 };
const quiet = { ENABLE_TRACING: "false" };

interface Pipeline {
  readonly process: RunningCommand;
  readonly jobs: ReturnType<typeof clientOf>;
}

function clientOf(url: string) {
  return createClient(JobService, createGrpcTransport({ baseUrl: url }));
}

async function startPipeline(t: Pick<TestContext, "after">, flags: readonly string[]): Promise<Pipeline> {
  const process = startCommand(t, ["pipeline", "--port", "0", ...flags], quiet);
  const [, url = ""] = await process.waitFor(readyAt);
  return { process, jobs: clientOf(url) };
}

async function create({ jobs }: Pick<Pipeline, "jobs">, prompt: string, steps = 4): Promise<string> {
  const { job } = await jobs.createJob({
    work: { case: "generate", value: { prompt, options: { numInferenceSteps: steps } } },
  });
  return job?.id ?? assert.fail("no job");
}

async function imageOf(job: Job): Promise<void> {
  assert.equal(JobState[job.state], "SUCCEEDED");
  assert.ok(job.detail.case === "result");
  const { image } = job.detail.value;
  const response = await fetch(image?.url ?? "");
  assert.equal(response.status, 200);
  assert.equal((await response.arrayBuffer()).byteLength, image?.fileSize);
}

/** Kills a process group, and waits until all of it is gone. */
async function crash({ process }: Pick<Pipeline, "process">): Promise<void> {
  process.killGroup("SIGKILL");
  await process.gone();
}

const seconds = (sinceMs: number) => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;

suite("jobs on PostgreSQL, with kills", { skip: whyNoPostgres }, () => {
  let postgres: Postgres;
  let source: string;
  let images: string;
  let workers: readonly WorkerProcess[] = [];
  const flags = (level = "error") => [
    ...["--jobs", source, "--images", images, "--log-level", level],
    ...["--worker", `${jobApp}=ipv4:${workers.map(({ port }) => `127.0.0.1:${port}`).join(",")}`],
  ];
  before(async () => {
    postgres = await startPostgres();
  });
  after(() => postgres?.remove());
  const prepare = async (count: number) => {
    source = await postgres.createDatabase();
    images = await temporaryFolder();
    workers = await Promise.all(Array.from({ length: count }, startWorkerProcess));
  };
  afterEach(() => Promise.all(workers.map((worker) => worker.kill())));
  const [first, second] = [() => workers[0] ?? assert.fail(), () => workers[1] ?? assert.fail()];

  test("the job of a killed pipeline runs in another one within 15 s, and its result is one", limit, async (t) => {
    await prepare(1);
    const doomed = await startPipeline(t, flags());
    first().hold(true);
    const holding = first().holding();
    const id = await create(doomed, "outlives");
    await holding;
    const other = await startPipeline(t, flags());
    const again = first().holding();
    const killedAt = performance.now();
    await crash(doomed);
    await again;
    t.diagnostic(`the job runs again ${seconds(killedAt)} after the pipeline's death`);
    assert.ok(performance.now() - killedAt < 15_000);
    first().hold(false);
    const job = await lastOf(other, { id });
    await imageOf(job);
    assert.equal(job.attempt, 2);
    assert.deepEqual(first().begun, ["outlives", "outlives"]);
  });

  test("a pipeline that stood still for longer than its claim cannot end the job a second time", limit, async (t) => {
    await prepare(1);
    const zombie = await startPipeline(t, flags("info"));
    first().hold(true);
    const holding = first().holding();
    const id = await create(zombie, "fenced");
    await holding;
    const again = first().holding();
    zombie.process.kill("SIGSTOP");
    const rival = await startPipeline(t, flags());
    const stoodAt = performance.now();
    await again;
    t.diagnostic(`the job runs again ${seconds(stoodAt)} after the rival's start`);
    // Both attempts end now: the first one's result waits in the stopped process's socket.
    first().hold(false);
    await imageOf(await lastOf(rival, { id }));
    const outcome = `select md5(outcome), end_time, attempt from throughline.job where id = '${id}'`;
    const [stored] = await postgres.query(source, outcome);
    zombie.process.kill("SIGCONT");
    await zombie.process.waitFor(/job was ended elsewhere|job stopped/);
    assert.deepEqual(await postgres.query(source, outcome), [stored]);
    assert.deepEqual(first().begun, ["fenced", "fenced"]);
  });

  test("the job of a killed worker runs on another one at once", limit, async (t) => {
    await prepare(2);
    const pipeline = await startPipeline(t, flags());
    for (const worker of workers) {
      worker.hold(true);
    }
    const holding = Promise.race(workers.map((worker) => worker.holding().then(() => worker)));
    const id = await create(pipeline, "moves");
    const victim = await holding;
    const other = victim === first() ? second() : first();
    const again = other.holding();
    const killedAt = performance.now();
    await victim.kill();
    await again;
    t.diagnostic(`the job runs again ${seconds(killedAt)} after the worker's death`);
    other.hold(false);
    await imageOf(await lastOf(pipeline, { id }));
  });

  test(
    "a crash of the database in mid-write loses no acknowledged job, and runs none twice to an end",
    limit,
    async (t) => {
      await prepare(2);
      const pipeline = await startPipeline(t, flags());
      const acknowledged: string[] = [];
      let isDown = false;
      const submit = async (lane: number) => {
        for (let index = 0; !isDown; index++) {
          acknowledged.push(await create(pipeline, `lane ${lane} job ${index}`));
        }
      };
      const lanes = Array.from({ length: 4 }, (_, lane) =>
        submit(lane).catch(() => {
          isDown = true;
        }),
      );
      while (acknowledged.length < 40) {
        await new Promise((resolve) => setImmediate(resolve));
      }
      await postgres.end("SIGKILL");
      await Promise.all(lanes);
      await postgres.start();
      t.diagnostic(`${acknowledged.length} jobs were acknowledged before the crash`);
      const jobs = await Promise.all(acknowledged.map((id) => lastOf(pipeline, { id })));
      await Promise.all(jobs.map(imageOf));
      const [counts] = await postgres.query(
        source,
        "select count(*), count(*) filter (where state = 3) from throughline.job",
      );
      const [all, succeeded] = (counts ?? "").split("|").map(Number);
      assert.ok(all !== undefined && all >= acknowledged.length);
      // One that was stored and not acknowledged may still run.
      assert.ok(succeeded !== undefined && succeeded >= acknowledged.length);
    },
  );

  test("a job that kills two engines fails", limit, async (t) => {
    await prepare(0);
    const model = join(await temporaryFolder(), "model");
    await makeSdxlFolder(model, { unetWork: 20 });
    const worker = startCommand(t, ["worker", "--app", jobApp, "--model", model, "--port", "0"], quiet);
    const [, , port] = await worker.waitFor(readyAt);
    const pipeline = await startPipeline(t, [
      ...["--jobs", source, "--images", images, "--log-level", "error"],
      ...["--worker", `${jobApp}=127.0.0.1:${port}`],
    ]);
    const id = await create(pipeline, "deadly", 150);
    let last: Job | undefined;
    const killed = new Set<number>();
    for await (const { job } of pipeline.jobs.watchJob({ id })) {
      last = job;
      if (job?.detail.case === "progress" && job.detail.value.step > 0 && !killed.has(job.attempt)) {
        killed.add(job.attempt);
        process.kill(engineOf(worker), "SIGKILL");
      }
    }
    assert.equal(JobState[last?.state ?? 0], "FAILED");
    assert.equal(last?.attempt, 2);
    assert.equal(killed.size, 2);
    assert.ok(last.detail.case === "error");
    assert.equal(last.detail.value.code, 14);
  });
});

/** Id of a worker's engine process. */
function engineOf(worker: RunningCommand): number {
  const lines = execFileSync("ps", ["-A", "-o", "pid=,ppid=,stat="], { encoding: "utf8" }).split("\n");
  for (const line of lines) {
    const [pid = "", parent, state = "Z"] = line.trim().split(/\s+/);
    if (Number(parent) === worker.pid && !state.startsWith("Z")) {
      return Number(pid);
    }
  }
  return assert.fail("no engine");
}

suite("jobs of dev, with kills", () => {
  test("ten submitted jobs end once each though dev is killed, and their images can be fetched", limit, async (t) => {
    const folder = await temporaryFolder();
    const model = join(folder, "model");
    await makeSdxlFolder(model, { unetWork: 5 });
    const jobsFolder = join(folder, "jobs");
    const ports = ["--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
    const startDev = async () => {
      const process = startCommand(t, ["dev", "--model", model, "--jobs", jobsFolder, ...ports], quiet);
      const [, url = ""] = await process.waitFor(/pipeline +(http:\S+)/);
      await process.waitFor(/Ctrl-C/);
      return { process, jobs: clientOf(url) };
    };
    const before = await startDev();
    const ids: string[] = [];
    for (let index = 0; index < 10; index++) {
      ids.push(await create(before, `wish ${index}`, 8));
    }
    await lastOf(before, { id: ids[0] ?? "" });
    // In mid-write: two more creations have no answer yet.
    const unheard = Promise.allSettled([create(before, "eleven"), create(before, "twelve")]);
    await crash(before);
    const heard = (await unheard).flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));

    const again = await startDev();
    const killedAt = performance.now();
    const jobs = await Promise.all([...ids, ...heard].map((id) => lastOf(again, { id })));
    t.diagnostic(`all have ended ${seconds(killedAt)} after the new start`);
    for (const job of jobs) {
      await imageOf(job);
      const stored = await readdir(join(jobsFolder, "images", "jobs", job.id));
      assert.equal(stored.filter((name) => name.endsWith(".png")).length, 1, "one result");
    }
    assert.ok(jobs.some(({ attempt }) => attempt === 1));
    assert.ok(jobs.every(({ attempt }) => attempt <= 2));
    const listed = await again.jobs.listJobs({});
    assert.ok(ids.every((id) => listed.jobs.some((job) => job.id === id)));
    await crash(again);
  });
});
