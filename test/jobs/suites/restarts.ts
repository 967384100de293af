import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { before, describe, it } from "node:test";
import { Code } from "@connectrpc/connect";
import { type Job, JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { openFolderDatabase } from "../../../src/jobs/pglite-folder.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { fillTestFolder } from "../../support/job-database.js";
import { lastOf, startJobMesh } from "../../support/job-mesh.js";
import { webhookSecret } from "./webhook-receiver.js";

export function describeRestarts(): void {
  describe("jobs in a folder", async () => {
    const folder = await temporaryFolder();
    const open = () => openFolderDatabase(folder);
    const key = randomBytes(32);
    let made: readonly Job[] = [];
    before(() => fillTestFolder(folder));

    it("jobs outlive their pipeline, and run once each", async () => {
      const held = createHeldEngine(2);
      const webhooks = { policy: { hosts: ["hooks.example.com"] }, secret: webhookSecret };
      const first = await startJobMesh({ engines: [held.engine], source: await open(), folder, keys: [key], webhooks });
      const create = async (prompt: string): Promise<Job> => {
        const { job } = await first.jobs.createJob({ work: { case: "generate", value: { prompt } } });
        assert.ok(job);
        return job;
      };
      made = [await create("a secret wish"), await create("a second secret"), await create("a third secret")];
      const withWebhook = {
        work: { case: "generate", value: { prompt: "a fourth secret" } },
        webhookUrl: "https://hooks.example.com/done",
        requestId: "r1",
      } as const;
      const { job: asked } = await first.jobs.createJob(withWebhook);
      await held.reached;
      await first.stop();

      const engine = createFakeEngine();
      const mesh = await startJobMesh({ engines: [engine], source: await open(), folder, keys: [key] });
      try {
        for (const job of made) {
          const done = await lastOf(mesh, job);
          assert.equal(done.state, JobState.SUCCEEDED);
          assert.ok(done.detail.case === "result");
          assert.equal((await fetch(done.detail.value.image?.url ?? "")).status, 200);
        }
        // Webhooks are off since the restart, which matters to new jobs only.
        const { job: again } = await mesh.jobs.createJob(withWebhook);
        assert.equal(again?.id, asked?.id);
        const another = { case: "generate", value: { prompt: "another" } } as const;
        await assert.rejects(mesh.jobs.createJob({ ...withWebhook, work: another }), { code: Code.AlreadyExists });
        await assert.rejects(mesh.jobs.createJob({ ...withWebhook, requestId: "r2" }), {
          code: Code.InvalidArgument,
          rawMessage: /webhooks are off/,
        });
        await lastOf(mesh, again);
        assert.equal(engine.generations, 4);
        assert.equal((await lastOf(mesh, made[0])).attempt, 2, "the first had begun before");
        const { rows } = await mesh.database.sql.executeSql(
          "select encode(work, 'escape') || encode(outcome, 'escape') as text from throughline.job",
        );
        assert.equal(rows.length, 4);
        assert.doesNotMatch(rows.map(({ text }) => String(text)).join(), /secret/);
      } finally {
        await mesh.stop();
      }
    });

    it("a key file without the key of stored jobs is an error at the start, and one with it behind a new key is none", async () => {
      await assert.rejects(
        startJobMesh({ source: await open(), folder, keys: [randomBytes(32)] }),
        /encrypted with a key that is not in --jobs-key-file: add it/,
      );
      const mesh = await startJobMesh({ source: await open(), folder, keys: [randomBytes(32), key] });
      try {
        const { job } = await mesh.jobs.getJob({ id: made[0]?.id ?? "" });
        assert.equal(job?.state, JobState.SUCCEEDED);
        assert.ok(job.work.case === "generate");
        assert.equal(job.work.value.prompt, "a secret wish");
      } finally {
        await mesh.stop();
      }
    });
  });
}
