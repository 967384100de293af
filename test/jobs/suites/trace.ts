import assert from "node:assert/strict";
import { beforeEach, describe, it } from "node:test";
import { GenerationError } from "../../../src/engine/engine.js";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import { jobApp, lastOf } from "../../support/job-mesh.js";
import { besideInferJobTree, generateJobTree, inferJobTree } from "../../support/job-trees.js";
import { spanTree } from "../../support/span-tree.js";
import type { SharedMesh } from "./shared-mesh.js";

const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
const carrier = { traceparent: `00-${caller.traceId}-${caller.spanId}-01` };

export function describeTrace(shared: SharedMesh): void {
  describe("the trace of a job", () => {
    beforeEach(() => shared.mesh.collector.clear());

    it("of a generate job is send, process, and below it exactly the six spans", async () => {
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "generate", value: { prompt: "a red heart" } },
      });
      const done = await lastOf(shared.mesh, job);
      assert.equal(spanTree(shared.mesh.spans()), generateJobTree);
      assert.deepEqual(new Set(shared.mesh.spans().map(({ traceId }) => traceId)), new Set([done.traceId]));
      assert.ok(done.detail.case === "result");
      assert.equal(done.detail.value.traceId, done.traceId);
      const process = shared.mesh.spans().find(({ name }) => name === "process");
      assert.deepEqual(process?.attributes, {
        "messaging.system": "throughline",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": jobApp,
        "messaging.message.id": done.id,
        "throughline.job.attempt": 1,
      });
    });

    it("continues the caller's trace by the request's carrier", async () => {
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "generate", value: { prompt: "a red heart" } },
        traceContext: carrier,
      });
      const done = await lastOf(shared.mesh, job);
      assert.equal(done.traceId, caller.traceId);
      assert.match(
        spanTree(shared.mesh.spans()),
        new RegExp(`^send PRODUCER in ${caller.spanId}\n  process CONSUMER → send\n`),
      );
    });

    it("of an infer job leaves the caller's trace as the original has it, and links to it", async () => {
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "infer", value: { request: { prompt: "a red heart", traceContext: carrier } } },
      });
      const done = await lastOf(shared.mesh, job);
      const inCallers = shared.mesh.spans().filter(({ traceId }) => traceId === caller.traceId);
      assert.equal(spanTree(inCallers), inferJobTree(caller.spanId));
      const beside = shared.mesh.spans().filter(({ traceId }) => traceId !== caller.traceId);
      assert.equal(spanTree(beside), besideInferJobTree(caller.spanId));
      assert.equal(done.traceId, beside[0]?.traceId);
    });

    it("of a second attempt links to the first one", async () => {
      let runs = 0;
      shared.use(
        createFakeEngine({
          beforeStep(step) {
            if (step === 2 && ++runs === 1) {
              throw new GenerationError("lost", "the engine process died", { whileGenerating: true });
            }
          },
        }),
      );
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "generate", value: { prompt: "a red heart" } },
      });
      const done = await lastOf(shared.mesh, job);
      assert.equal(done.attempt, 2);
      const attempts = shared.mesh.spans().filter(({ name }) => name === "process");
      const [first, second] = [1, 2].map((number) =>
        attempts.find(({ attributes }) => attributes["throughline.job.attempt"] === number),
      );
      const send = shared.mesh.spans().find(({ name }) => name === "send");
      assert.deepEqual(
        second?.links.map(({ spanId }) => spanId),
        [send?.spanId, first?.spanId],
      );
      assert.equal(second?.parentSpanId, send?.spanId);
      assert.equal(first?.traceId, second?.traceId);
    });

    it("has no spans of calls that look at jobs", async () => {
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "generate", value: { prompt: "a red heart" } },
      });
      await lastOf(shared.mesh, job);
      shared.mesh.collector.clear();
      const { jobs } = await shared.mesh.jobs.listJobs({});
      await shared.mesh.jobs.getJob({ id: jobs[0]?.id ?? "" });
      await lastOf(shared.mesh, jobs[0]);
      assert.equal(spanTree(shared.mesh.spans()), "");
    });
  });
}
