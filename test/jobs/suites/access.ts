import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { JobService, JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { createCallerKey, hashCallerKey } from "../../../src/mesh/access/caller-keys.js";
import { reloadCallersFile } from "../../../src/mesh/access/callers-file.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { replaceFile } from "../../support/certificates.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { type JobMesh, jobApp, lastOf, startJobMesh } from "../../support/job-mesh.js";

const noSuchJob = {
  code: Code.NotFound,
  rawMessage: "no such job of this caller: it was deleted or has expired, or the id is wrong",
};

export function describeAccess(): void {
  describe("jobs of named callers", () => {
    const keys = { anna: createCallerKey(), ben: createCallerKey(), guest: createCallerKey() };
    const held = createHeldEngine(1);
    let mesh: JobMesh;
    let callers: ReturnType<typeof reloadCallersFile>;
    before(async () => {
      const file = await replaceFile(
        join(await temporaryFolder(), "callers.yaml"),
        JSON.stringify({
          callers: [
            { name: "anna", keys: [hashCallerKey(keys.anna)], apps: [jobApp] },
            { name: "ben", keys: [hashCallerKey(keys.ben)], apps: [jobApp] },
            { name: "guest", keys: [hashCallerKey(keys.guest)], apps: ["acme/other"] },
          ],
        }),
      );
      callers = reloadCallersFile(file, { onRejected: (error) => assert.fail(String(error)) });
      mesh = await startJobMesh({ engines: [held.engine], listsAnonymous: false, serve: { callers } });
    });
    after(async () => {
      held.release();
      await mesh.stop();
      callers.close();
    });
    const clientOf = (key: string | undefined) =>
      createClient(
        JobService,
        createGrpcTransport({
          baseUrl: mesh.url,
          interceptors: [
            (next) => (request) => {
              if (key !== undefined) {
                request.header.set("authorization", `Bearer ${key}`);
              }
              return next(request);
            },
          ],
        }),
      );
    const work = { case: "generate", value: { prompt: "mine" } } as const;

    it("are NOT_FOUND for another caller, in every call, and stay as they are", async () => {
      const [anna, ben] = [clientOf(keys.anna), clientOf(keys.ben)];
      const id = (await anna.createJob({ work })).job?.id ?? "";
      await held.reached;
      await assert.rejects(ben.getJob({ id }), noSuchJob);
      await assert.rejects(ben.cancelJob({ id }), noSuchJob);
      await assert.rejects(ben.deleteJob({ id }), noSuchJob);
      await assert.rejects(async () => {
        for await (const _update of ben.watchJob({ id })) {
          assert.fail("shows another caller's job");
        }
      }, noSuchJob);
      assert.equal((await anna.getJob({ id })).job?.state, JobState.RUNNING);
    });

    it("are listed for their own caller only, and a request id is unique for each", async () => {
      const [anna, ben] = [clientOf(keys.anna), clientOf(keys.ben)];
      const ofBen = (await ben.createJob({ work, requestId: "r" })).job?.id;
      const ofAnna = (await anna.createJob({ work: { ...work, value: { prompt: "other" } }, requestId: "r" })).job?.id;
      assert.notEqual(ofBen, ofAnna);
      assert.deepEqual(
        (await ben.listJobs({})).jobs.map(({ id }) => id),
        [ofBen],
      );
      assert.equal((await anna.listJobs({})).jobs[0]?.id, ofAnna);
    });

    it("are not created for an app that the caller may not use, or without a key", async () => {
      await assert.rejects(clientOf(keys.guest).createJob({ work }), { code: Code.PermissionDenied });
      await assert.rejects(clientOf(undefined).createJob({ work }), { code: Code.Unauthenticated });
      await assert.rejects(clientOf(undefined).listJobs({}), { code: Code.Unauthenticated });
      assert.deepEqual((await clientOf(keys.guest).listJobs({})).jobs, []);
    });

    it("take turns: a flood of one caller does not delay another's next job", async () => {
      const [anna, ben] = [clientOf(keys.anna), clientOf(keys.ben)];
      for (const caller of [anna, ben]) {
        for (const { id, state } of (await caller.listJobs({})).jobs) {
          if (state === JobState.QUEUED) {
            await caller.deleteJob({ id });
          }
        }
      }
      const create = async (caller: typeof anna, prompt: string) =>
        (await caller.createJob({ work: { case: "generate", value: { prompt } } })).job;
      const flood = [];
      for (const prompt of ["flood 1", "flood 2", "flood 3"]) {
        flood.push(await create(anna, prompt));
      }
      const ofBen = await create(ben, "one");
      assert.ok(ofBen?.detail.case === "queued");
      assert.equal(ofBen.detail.value.position, 0);
      held.release();
      await lastOf({ jobs: anna }, flood.at(-1));
      assert.deepEqual(held.begun, ["mine", "one", "flood 1", "flood 2", "flood 3"]);
    });
  });
}
