import assert from "node:assert/strict";
import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { credentials, loadPackageDefinition, type ServiceClientConstructor } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { Delivery } from "../../../src/gen/throughline/v1/image_pb.js";
import { type Job, JobPriority, JobState } from "../../../src/gen/throughline/v1/job_pb.js";
import { createJobStore } from "../../../src/jobs/job-store.js";
import { createHeldEngine } from "../../support/held-engine.js";
import { type JobMesh, jobApp, lastOf } from "../../support/job-mesh.js";
import type { SharedMesh } from "./shared-mesh.js";

/** Jobs do not read it. */
const tinyPng = Buffer.from("89504e470d0a1a0a", "hex");

async function createOf(mesh: JobMesh, prompt: string, more: object = {}): Promise<Job> {
  const { job } = await mesh.jobs.createJob({ work: { case: "generate", value: { prompt, ...more } } });
  assert.ok(job);
  return job;
}

export function describeService(shared: SharedMesh): void {
  describe("a job", () => {
    it("is stored, runs, and keeps its image", async () => {
      const created = await createOf(shared.mesh, "a red heart");
      assert.match(created.id, /^[0-9a-f]{32}$/);
      assert.equal(created.workerApp, jobApp);
      assert.equal(created.priority, JobPriority.NORMAL);

      const done = await lastOf(shared.mesh, created);
      assert.equal(done.state, JobState.SUCCEEDED);
      assert.equal(done.attempt, 1);
      assert.ok(done.detail.case === "result");
      const { image, seed } = done.detail.value;
      assert.ok(image && image.data.length === 0);
      assert.ok(done.work.case === "generate");
      assert.equal(done.work.value.options?.seed, seed, "the seed is drawn when the job is created");

      const response = await fetch(image.url);
      assert.equal(response.status, 200);
      assert.equal((await response.arrayBuffer()).byteLength, image.fileSize);
      assert.equal((await fetch(`${image.url}/more`)).status, 404);
      const { job } = await shared.mesh.jobs.getJob({ id: created.id });
      assert.deepEqual(job, done);
    });

    it("has its image in the message where its delivery asks for it, but not in lists", async () => {
      const { id } = await createOf(shared.mesh, "a pizza", { options: { delivery: Delivery.INLINE } });
      const done = await lastOf(shared.mesh, { id });
      assert.ok(done.detail.case === "result");
      assert.equal(done.detail.value.image?.data.length, done.detail.value.image?.fileSize);
      const { jobs } = await shared.mesh.jobs.listJobs({ pageSize: 1 });
      assert.equal(jobs[0]?.id, id);
      assert.ok(jobs[0].detail.case === "result");
      assert.equal(jobs[0].detail.value.image?.data.length, 0);
    });

    it("has its image in the URL where its delivery asks for a data: URI, but not in lists", async () => {
      const { id } = await createOf(shared.mesh, "a pizza", { options: { delivery: Delivery.DATA_URI } });
      const done = await lastOf(shared.mesh, { id });
      assert.ok(done.detail.case === "result");
      const { url = "", data, fileSize, contentType, fileName = "" } = done.detail.value.image ?? {};
      assert.equal(data?.length, 0);
      const [, encoded = ""] = /^data:image\/png;base64,(.+)$/.exec(url) ?? assert.fail(url.slice(0, 40));
      const bytes = Buffer.from(encoded, "base64");
      assert.deepEqual([bytes.length, contentType], [fileSize, "image/png"]);
      assert.ok(bytes.equals(await readFile(join(shared.mesh.folder, "jobs", id, fileName))));
      const { job } = await shared.mesh.jobs.getJob({ id });
      assert.deepEqual(job, done);
      const { jobs } = await shared.mesh.jobs.listJobs({ pageSize: 1 });
      assert.ok(jobs[0]?.detail.case === "result");
      assert.equal(jobs[0].detail.value.image?.url, "");
    });

    it("is made once for one request id", async () => {
      const request = { work: { case: "generate", value: { prompt: "once" } }, requestId: "r1" } as const;
      const first = await shared.mesh.jobs.createJob(request);
      const second = await shared.mesh.jobs.createJob(request);
      assert.equal(second.job?.id, first.job?.id);
      await assert.rejects(
        shared.mesh.jobs.createJob({ ...request, priority: JobPriority.HIGH }),
        (error) =>
          error instanceof ConnectError && error.code === Code.AlreadyExists && /request_id/.test(error.message),
      );
    });

    it("is gone at once when it is deleted", async () => {
      const { id } = await createOf(shared.mesh, "a secret");
      const done = await lastOf(shared.mesh, { id });
      assert.ok(done.detail.case === "result");
      await shared.mesh.jobs.deleteJob({ id });
      await assert.rejects(shared.mesh.jobs.getJob({ id }), (error) => ConnectError.from(error).code === Code.NotFound);
      assert.equal((await fetch(done.detail.value.image?.url ?? "")).status, 404);
      const { rows } = await shared.mesh.database.sql.executeSql(
        "select count(*)::int as count from throughline.job where id = $1",
        [id],
      );
      assert.equal(rows[0]?.count, 0);
    });

    it("is listed in pages, the newest first", async () => {
      const made = [
        await createOf(shared.mesh, "one"),
        await createOf(shared.mesh, "two"),
        await createOf(shared.mesh, "three"),
      ].map(({ id }) => id);
      const first = await shared.mesh.jobs.listJobs({ pageSize: 2 });
      const second = await shared.mesh.jobs.listJobs({ pageSize: 1, pageToken: first.nextPageToken });
      assert.deepEqual(
        [...first.jobs, ...second.jobs].map(({ id }) => id),
        made.toReversed(),
      );
      await assert.rejects(
        shared.mesh.jobs.listJobs({ pageToken: "x" }),
        (error) => ConnectError.from(error).code === Code.InvalidArgument && /page_token/.test(String(error)),
      );
    });

    it("whose stored bytes cannot be read hides no other in the list, and can be deleted", async () => {
      const damaged = await createOf(shared.mesh, "damaged");
      await lastOf(shared.mesh, damaged);
      const { sql } = shared.mesh.database;
      const head = Buffer.concat([Buffer.of(1), Buffer.from("othe key")]);
      await sql.executeSql("update throughline.job set outcome = $2 where id = $1", [damaged.id, head]);
      const other = await createOf(shared.mesh, "whole");
      await lastOf(shared.mesh, other);

      const { jobs } = await shared.mesh.jobs.listJobs({});
      assert.deepEqual(
        jobs.map(({ id, state, detail, work }) => [id, state, detail.case, work.case]),
        [
          [other.id, JobState.SUCCEEDED, "result", "generate"],
          [damaged.id, JobState.SUCCEEDED, undefined, undefined],
        ],
      );
      await assert.rejects(shared.mesh.jobs.getJob({ id: damaged.id }), {
        code: Code.Internal,
        rawMessage: /^the stored job cannot be read: .*; delete it$/,
      });
      const heads = await createJobStore(shared.mesh.database).payloadHeads();
      assert.deepEqual(
        heads.map((found) => Buffer.from(found)),
        [head],
        "the start checks the keys of results too",
      );
      await shared.mesh.jobs.deleteJob({ id: damaged.id });
    });

    it("fails when the image that it starts from is gone, and does not generate another", async () => {
      const held = createHeldEngine(1);
      shared.use(held.engine);
      await createOf(shared.mesh, "runs");
      await held.reached;
      const { id, work } = await createOf(shared.mesh, "starts from an image", { options: { initImage: tinyPng } });
      assert.ok(work.case === "generate");
      assert.equal(work.value.options?.initImage, undefined);
      const folder = join(shared.mesh.folder, "jobs", id);
      const names = await readdir(folder);
      assert.match(names.toSorted().join(" "), /^00000000000000000000000000000000\.init database-[0-9a-f]{32}$/);
      await rm(folder, { recursive: true });
      held.release();
      const done = await lastOf(shared.mesh, { id });
      assert.ok(done.detail.case === "error");
      assert.match(done.detail.value.message, /image that the job starts from is missing/);
      assert.deepEqual(held.begun, ["runs"]);
    });

    it("takes an image as large as a call's, and keeps it whole", async () => {
      const initImage = new Uint8Array(8 * 1024 * 1024).fill(7);
      const held = createHeldEngine(1);
      shared.use(held.engine);
      await createOf(shared.mesh, "runs");
      await held.reached;
      const { id } = await createOf(shared.mesh, "large", { options: { initImage } });
      const file = await readFile(join(shared.mesh.folder, "jobs", id, "00000000000000000000000000000000.init"));
      assert.ok(file.equals(initImage));
      const json = await fetch(`${shared.mesh.url}/throughline.v1.JobService/CreateJob`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({
          generate: { prompt: "large", options: { init_image: Buffer.from(initImage).toString("base64") } },
        }),
      });
      assert.equal(json.status, 200);
      held.release();
    });

    it("leaves no file when it is refused", async () => {
      const requestId = "with an image";
      const options = { initImage: tinyPng };
      const { job } = await shared.mesh.jobs.createJob({
        work: { case: "generate", value: { prompt: "one", options } },
        requestId,
      });
      const other = { work: { case: "generate", value: { prompt: "another", options } }, requestId } as const;
      await assert.rejects(shared.mesh.jobs.createJob(other), { code: Code.AlreadyExists });
      assert.deepEqual(await readdir(join(shared.mesh.folder, "jobs")), [job?.id]);
    });

    it("has no NUL in what the database stores as text", async () => {
      const value = { prompt: "a\0b" };
      const { job } = await shared.mesh.jobs.createJob({ work: { case: "generate", value } });
      assert.deepEqual(job?.work.value?.$typeName, "throughline.v1.GenerateRequest");
      await assert.rejects(shared.mesh.jobs.createJob({ work: { case: "generate", value }, requestId: "a\0b" }), {
        code: Code.InvalidArgument,
        rawMessage: /^request_id: /,
      });
      await assert.rejects(shared.mesh.jobs.listJobs({ workerApp: "a\0b" }), {
        code: Code.InvalidArgument,
        rawMessage: /^worker_app: /,
      });
    });

    it("never has its prompt in a log line", async () => {
      assert.ok(shared.mesh.lines.length > 0);
      assert.ok(!shared.mesh.lines.some((line) => line.includes("a red heart")));
    });
  });

  describe("a job over other clients", () => {
    it("is created with the original's JSON over HTTP, and read back in it", async () => {
      const post = async (method: string, body: object) => {
        const response = await fetch(`${shared.mesh.url}/throughline.v1.JobService/${method}`, {
          method: "POST",
          headers: { "content-type": "application/json" },
          body: JSON.stringify(body),
        });
        return { status: response.status, body: JSON.parse(await response.text()) };
      };
      const created = await post("CreateJob", { generate: { prompt: "a red heart" }, result_ttl: "60s" });
      assert.equal(created.status, 200);
      const { id, state, worker_app: app } = created.body.job;
      assert.match(state, /^JOB_STATE_(?:QUEUED|RUNNING|SUCCEEDED)$/);
      assert.equal(app, jobApp);
      await lastOf(shared.mesh, { id });
      const { body } = await post("GetJob", { id });
      assert.equal(body.job.state, "JOB_STATE_SUCCEEDED");
      assert.equal(body.job.generate.prompt, "a red heart");
      assert.equal(Date.parse(body.job.expire_time) - Date.parse(body.job.end_time), 60_000);
      assert.equal((await fetch(body.job.result.image.url)).status, 200);

      assert.deepEqual((await post("GetJob", { id: "x" })).body.code, "invalid_argument");
      assert.deepEqual((await post("GetJob", { id: "0".repeat(32) })).body.code, "not_found");
      const long = await post("CreateJob", { generate: { prompt: "x".repeat(2001) } });
      assert.deepEqual([long.status, long.body.code], [400, "invalid_argument"]);
      assert.doesNotMatch(JSON.stringify(long.body), /xxx/);
      const unknown = await post("CreateJob", { generate: { prompt: "x", worker_app: "no/app" } });
      assert.deepEqual([unknown.status, unknown.body.code], [404, "not_found"]);
    });

    it("is watched by grpc-js with the .proto files alone", async () => {
      const definition = loadSync("throughline/v1/job.proto", {
        includeDirs: ["proto", "third_party/proto"],
        enums: String,
      });
      const { throughline } = loadPackageDefinition(definition) as unknown as {
        throughline: { v1: { JobService: ServiceClientConstructor } };
      };
      const client = new throughline.v1.JobService(new URL(shared.mesh.url).host, credentials.createInsecure());
      try {
        const { id } = await createOf(shared.mesh, "a pizza");
        const call = client.makeServerStreamRequest(
          "/throughline.v1.JobService/WatchJob",
          throughline.v1.JobService.service["WatchJob"]?.requestSerialize ?? assert.fail(),
          throughline.v1.JobService.service["WatchJob"]?.responseDeserialize ?? assert.fail(),
          { id },
        );
        const states: string[] = [];
        for await (const { job } of call) {
          states.push(job.state);
        }
        assert.equal(states.at(-1), "JOB_STATE_SUCCEEDED");
        assert.equal(states.filter((state) => state === "JOB_STATE_SUCCEEDED").length, 1);
      } finally {
        client.close();
      }
    });

    it("has page tokens that stand no change", async () => {
      await createOf(shared.mesh, "one more");
      const { nextPageToken } = await shared.mesh.jobs.listJobs({ pageSize: 1 });
      const forged = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
      const id = "0".repeat(32);
      const tokens = [
        "x",
        `${nextPageToken}x`,
        forged([]),
        forged(["-1", id]),
        forged(["2026-01-01 00:00:00+00", id]),
        forged(["9".repeat(40), id]),
        forged(["1", "'; drop table throughline.job; --"]),
        forged({ createTime: "1", id }),
      ];
      for (const pageToken of tokens) {
        await assert.rejects(shared.mesh.jobs.listJobs({ pageToken }), { code: Code.InvalidArgument }, pageToken);
      }
      await assert.rejects(shared.mesh.jobs.listJobs({ pageToken: "x".repeat(129) }), { code: Code.InvalidArgument });
      await assert.rejects(shared.mesh.jobs.listJobs({ pageSize: 101 }), { code: Code.InvalidArgument });
      assert.equal((await shared.mesh.jobs.listJobs({ pageToken: forged(["1", id]) })).jobs.length, 0);
    });
  });
}
