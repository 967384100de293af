import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { Code } from "@connectrpc/connect";
import { type JobMesh, lastOf, startJobMesh } from "../../support/job-mesh.js";
import { spanTree } from "../../support/span-tree.js";

/** What needs other options than the shared mesh has. One mesh for all: another database costs a second of CPU. */
export function describeOtherOptions(): void {
  describe("jobs of a pipeline with other options", () => {
    let mesh: JobMesh;
    before(async () => {
      mesh = await startJobMesh({ jobTrace: "link", listsAnonymous: false });
    });
    after(() => mesh.stop());

    it("a job's run is a trace of its own with a link, where samplers need it", async () => {
      const { job } = await mesh.jobs.createJob({ work: { case: "generate", value: { prompt: "a red heart" } } });
      await lastOf(mesh, job);
      const roots = spanTree(mesh.spans())
        .split("\n")
        .filter((line) => !line.startsWith(" "));
      assert.deepEqual(roots, ["process CONSUMER → send", "send PRODUCER"]);
    });

    it("jobs without access control are listed on loopback only", async () => {
      await assert.rejects(mesh.jobs.listJobs({}), { code: Code.PermissionDenied, rawMessage: /set --callers$/ });
    });
  });
}
