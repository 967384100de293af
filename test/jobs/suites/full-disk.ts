import assert from "node:assert/strict";
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, it, type TestContext } from "node:test";
import { Code } from "@connectrpc/connect";
import { JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { lastOf } from "../../support/job-mesh.js";
import type { SharedMesh } from "./shared-mesh.js";

/** Has the disk take half of each file, for so many files. Returns a function that ends it. */
export async function fillDisk(t: TestContext, files: number): Promise<() => void> {
  const file = await open("package.json");
  await file.close();
  const full = Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
  const { mock } = t.mock.method(
    Object.getPrototypeOf(file),
    "writeFile",
    async function (this: typeof file, bytes: Uint8Array) {
      await this.write(bytes.subarray(0, bytes.length / 2));
      throw full;
    },
    { times: files },
  );
  return () => mock.restore();
}

export function describeFullDisk(shared: SharedMesh): void {
  describe("a full disk", () => {
    const namesIn = async (id: string) =>
      (await readdir(join(shared.mesh.folder, "jobs", id))).filter((name) => !name.startsWith("database-"));

    it("at the end of a job's last attempt fails the job with what is wrong, and leaves no half of the image", async (t) => {
      const held = createHeldEngine(2);
      shared.use(held.engine);
      const { job } = await shared.mesh.jobs.createJob({ work: { case: "generate", value: { prompt: "no space" } } });
      assert.ok(job);
      await held.reached;
      const makeSpace = await fillDisk(t, 20);
      // The attempts before wait for space, five seconds each.
      await shared.mesh.database.sql.executeSql("update throughline.job set attempt = 19 where id = $1", [job.id]);
      held.release();
      const done = await lastOf(shared.mesh, job);
      assert.equal(done.state, JobState.FAILED);
      assert.ok(done.detail.case === "error");
      assert.equal(done.detail.value.code, Code.Unavailable);
      assert.equal(done.detail.value.message, "the image cannot be stored: the image store is full");
      assert.deepEqual(await namesIn(job.id), []);
      makeSpace();
    });

    it("when a job is created rejects it with what is wrong, and leaves neither the job nor half of its image", async (t) => {
      const makeSpace = await fillDisk(t, 1);
      const value = { prompt: "no space", options: { initImage: new Uint8Array(1_000) } };
      await assert.rejects(shared.mesh.jobs.createJob({ work: { case: "generate", value } }), {
        code: Code.Unavailable,
        rawMessage: /the image store is full/,
      });
      makeSpace();
      assert.deepEqual((await shared.mesh.jobs.listJobs({})).jobs, []);
      assert.deepEqual(await readdir(join(shared.mesh.folder, "jobs")), []);
    });
  });
}
