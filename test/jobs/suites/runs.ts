import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { GenerationError } from "../../../src/engine/engine.js";
import { type Job, JobPriority, JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { retryDelayMsOf } from "../../../src/mesh/errors/errors.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { type JobMesh, lastOf } from "../../support/job-mesh.js";
import type { SharedMesh } from "./shared-mesh.js";

async function create({ jobs }: JobMesh, prompt: string, more: object = {}): Promise<Job> {
  const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt } }, ...more });
  assert.ok(job);
  return job;
}

/** Races of a cancel with the end of a job. */
const rounds = process.env["THOROUGH"] === "1" ? 20 : 5;

export function describeRuns(shared: SharedMesh): void {
  describe("the run of a job", () => {
    const { use } = shared;

    it("a cancel ends a waiting job at once, a running one before its next step, and changes no finished one", async () => {
      const held = createHeldEngine(2);
      use(held.engine);
      const running = await create(shared.mesh, "runs");
      await held.reached;
      const waiting = await create(shared.mesh, "waits");

      const { job: cancelled } = await shared.mesh.jobs.cancelJob({ id: waiting.id });
      assert.equal(cancelled?.state, JobState.CANCELLED);
      assert.equal(cancelled.startTime, undefined);

      await shared.mesh.jobs.cancelJob({ id: running.id });
      assert.equal((await lastOf(shared.mesh, running)).state, JobState.CANCELLED);
      held.release();
      const next = await lastOf(shared.mesh, await create(shared.mesh, "after"));
      assert.equal(next.state, JobState.SUCCEEDED, "the engine is free again");
      assert.equal(held.engine.stepsRun, 1 + 4, "the cancelled job ran no step more");

      const { job: still } = await shared.mesh.jobs.cancelJob({ id: next.id });
      assert.deepEqual(still?.state, JobState.SUCCEEDED);
      assert.deepEqual(held.begun, ["runs", "after"]);
    });

    it("a job of a higher class goes first", async () => {
      const held = createHeldEngine(1);
      use(held.engine);
      const first = await create(shared.mesh, "first");
      await held.reached;
      for (const prompt of ["low", "second", "high"]) {
        const priority = prompt === "low" ? JobPriority.LOW : prompt === "high" ? JobPriority.HIGH : JobPriority.NORMAL;
        await create(shared.mesh, prompt, { priority });
      }
      const [low] = (await shared.mesh.jobs.listJobs({})).jobs.filter(({ priority }) => priority === JobPriority.LOW);
      assert.ok(low?.detail.case === "queued");
      assert.equal(low.detail.value.position, 2);
      held.release();
      await lastOf(shared.mesh, low);
      await lastOf(shared.mesh, first);
      assert.deepEqual(held.begun, ["first", "high", "second", "low"]);
    });

    it("the second engine that a job ends is the last", async () => {
      let runs = 0;
      const engine = createFakeEngine({
        beforeStep(step) {
          if (step === 2) {
            runs++;
            throw new GenerationError("lost", "the engine process died", { whileGenerating: true });
          }
        },
      });
      use(engine);
      const done = await lastOf(shared.mesh, await create(shared.mesh, "deadly"));
      assert.equal(done.state, JobState.FAILED);
      assert.ok(done.detail.case === "error");
      assert.equal(done.detail.value.code, Code.Unavailable);
      assert.equal(runs, 2);
      assert.equal(done.attempt, 2);
    });

    it("a job that the model does not take fails with the error that a call would get", async () => {
      use(createFakeEngine());
      const done = await lastOf(shared.mesh, await create(shared.mesh, " \t "));
      assert.equal(done.state, JobState.FAILED);
      assert.ok(done.detail.case === "error");
      assert.equal(done.detail.value.code, Code.InvalidArgument);
      assert.match(done.detail.value.message, /^prompt: /);
      assert.equal(done.detail.value.details[0]?.typeUrl, "type.googleapis.com/buf.validate.Violations");
    });

    it("a job that waits longer than its start timeout fails", async () => {
      const held = createHeldEngine(1);
      use(held.engine);
      await create(shared.mesh, "runs");
      await held.reached;
      const late = await create(shared.mesh, "late", { startTimeout: { seconds: 1n } });
      const done = await lastOf(shared.mesh, late);
      assert.ok(done.detail.case === "error");
      assert.equal(done.detail.value.code, Code.DeadlineExceeded);
      assert.equal(done.attempt, 0);
    });

    it("a job that runs longer than its run timeout fails, and frees the engine", async () => {
      const held = createHeldEngine(2);
      use(held.engine);
      const done = await lastOf(shared.mesh, await create(shared.mesh, "long", { runTimeout: { seconds: 1n } }));
      assert.equal(done.state, JobState.FAILED);
      assert.ok(done.detail.case === "error");
      assert.equal(done.detail.value.code, Code.DeadlineExceeded);
      assert.equal(done.attempt, 1);
      held.release();
      const next = await lastOf(shared.mesh, await create(shared.mesh, "next"));
      assert.equal(next.state, JobState.SUCCEEDED);
      assert.equal(held.engine.stepsRun, 1 + 4, "the failed job ran no step more");
    });

    it("a job whose result has expired is gone, with its files", async () => {
      const { id } = await create(shared.mesh, "short", { resultTtl: { seconds: 1n } });
      const done = await lastOf(shared.mesh, { id });
      assert.equal(done.state, JobState.SUCCEEDED);
      assert.deepEqual(await readdir(join(shared.mesh.folder, "jobs")), [id]);
      const isThere = () =>
        shared.mesh.jobs.getJob({ id }).then(
          () => true,
          (error: unknown) => {
            assert.equal(ConnectError.from(error).code, Code.NotFound);
            return false;
          },
        );
      while (await isThere()) {
        await delay(50);
      }
      while ((await readdir(join(shared.mesh.folder, "jobs"))).length > 0) {
        await delay(50);
      }
    });

    it("too many waiting jobs are rejected, with a time for the next try", async () => {
      const held = createHeldEngine(1);
      use(held.engine);
      await create(shared.mesh, "runs");
      await held.reached;
      await create(shared.mesh, "one");
      await create(shared.mesh, "two");
      await create(shared.mesh, "three");
      await create(shared.mesh, "four");
      await assert.rejects(create(shared.mesh, "five"), (error) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(error.code, Code.ResourceExhausted);
        assert.match(error.rawMessage, /4 jobs wait, which is the limit/);
        assert.equal(retryDelayMsOf(error), 5_000);
        return true;
      });
      held.release();
    });

    it("a job that is deleted while it runs is gone, with its files, and frees the engine", async () => {
      const held = createHeldEngine(2);
      use(held.engine);
      const job = await create(shared.mesh, "deleted");
      await held.reached;
      await assert.rejects(
        async () => {
          for await (const _update of shared.mesh.jobs.watchJob({ id: job.id })) {
            await shared.mesh.jobs.deleteJob({ id: job.id }).catch(() => {});
          }
        },
        { code: Code.NotFound, rawMessage: "the job was deleted" },
      );
      held.release();
      const next = await lastOf(shared.mesh, await create(shared.mesh, "next"));
      assert.equal(next.state, JobState.SUCCEEDED);
      assert.deepEqual(await readdir(join(shared.mesh.folder, "jobs")), [next.id]);
      assert.equal(held.engine.stepsRun, 1 + 4);
    });

    it("a cancel that races with the end of a job gives exactly one final state", async () => {
      for (let round = 0; round < rounds; round++) {
        use(createFakeEngine());
        const job = await create(shared.mesh, `race ${round}`);
        const watching = lastOf(shared.mesh, job);
        const [last, { job: answered }] = await Promise.all([watching, shared.mesh.jobs.cancelJob({ id: job.id })]);
        assert.ok([JobState.SUCCEEDED, JobState.CANCELLED].includes(last.state), JobState[last.state]);
        assert.equal(answered?.state, last.state);
        assert.equal((await shared.mesh.jobs.getJob({ id: job.id })).job?.state, last.state);
      }
    });
  });
}
