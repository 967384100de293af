import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, suite, type TestContext, test } from "node:test";
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { type Job, JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { ImagePipelineService } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { openBucket } from "../../src/s3/bucket.js";
import { startCommand } from "../cli/support/run-command.js";
import { startWorkerProcess, type WorkerProcess } from "../durability/worker-process.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { jobApp, lastOf } from "../support/job-mesh.js";
import { findVersitygw, startVersitygw, type Versitygw } from "./versitygw.js";

/** Images in a real object store: Versity's S3 gateway, which the suite builds and starts. Skipped where Go is not installed. */
const found = await findVersitygw();
const limit = { timeout: 120_000 };
const object = { bytes: Buffer.from("image"), contentType: "image/png", cacheControl: "no-store" };
const variables = (secret = "secret-one") => ({
  ENABLE_TRACING: "false",
  AWS_ACCESS_KEY_ID: "tester",
  AWS_SECRET_ACCESS_KEY: secret,
  AWS_EC2_METADATA_DISABLED: "true",
});

suite("images in an object store", { skip: "missing" in found && found.missing }, () => {
  const program = "path" in found ? found.path : "";
  let store: Versitygw;
  const workers: WorkerProcess[] = [];
  before(async () => {
    Object.assign(process.env, variables());
    store = await startVersitygw(program);
  });
  after(() => store?.remove());
  afterEach(async () => {
    await Promise.all(workers.splice(0).map((worker) => worker.kill()));
  });

  const flags = ({ endpoint }: Pick<Versitygw, "endpoint"> = store) => [
    ...["--image-store", "s3://images/some/prefix", "--s3-endpoint", endpoint, "--s3-force-path-style"],
  ];
  const startPipeline = async (
    t: TestContext,
    { more = [], environment = variables(), of = store }: StartOptions = {},
  ) => {
    const worker = await startWorkerProcess();
    workers.push(worker);
    const process = startCommand(
      t,
      ["pipeline", "--port", "0", "--worker", `${jobApp}=127.0.0.1:${worker.port}`, ...flags(of), ...more],
      environment,
    );
    const [, url = ""] = await process.waitFor(/is ready at (http:\/\/127\.0\.0\.1:\d+)$/m);
    const transport = createGrpcTransport({ baseUrl: url });
    const pipeline = createClient(ImagePipelineService, transport);
    const generate = async (prompt: string) => (await pipeline.generate({ prompt })).image ?? assert.fail("no image");
    return { url, worker, process, jobs: createClient(JobService, transport), generate };
  };
  interface StartOptions {
    readonly more?: readonly string[];
    readonly environment?: Readonly<Record<string, string>>;
    readonly of?: Versitygw;
  }
  const statusOf = async (url: string) => (await fetch(url)).status;
  const imageUrl = ({ detail }: Job): string =>
    detail.case === "result" ? (detail.value.image?.url ?? "") : assert.fail(`the job is ${detail.case}`);

  test("bucket stores, lists, signs and deletes", limit, async () => {
    const bucket = await openBucket({
      ...{ bucket: "images", prefix: "alone/", endpoint: store.endpoint, forcePathStyle: true, urlTtlSeconds: 1 },
    });
    await bucket.check();
    assert.equal(await bucket.putNew("a/1.png", object), true);
    assert.equal(await bucket.putNew("a/1.png", object), false);
    await bucket.put("b/2.png", object);
    assert.equal(Buffer.from((await bucket.get("a/1.png")) ?? []).toString(), "image");
    assert.equal(await bucket.get("a/none.png"), undefined);
    assert.equal(await bucket.changedAt("a/none.png"), undefined);
    assert.ok(Math.abs(((await bucket.changedAt("a/1.png")) ?? 0) - Date.now()) < 60_000);
    assert.deepEqual(
      (await bucket.list("a/")).map(({ key }) => key),
      ["a/1.png"],
    );

    const url = await bucket.presign("a/1.png");
    const response = await fetch(url);
    assert.equal(response.headers.get("content-type"), "image/png");
    assert.equal(await response.text(), "image");
    assert.equal(await statusOf(url.replace("a/1.png", "b/2.png")), 403);
    assert.equal(await statusOf(url.split("?")[0] ?? ""), 403);
    while ((await statusOf(url)) !== 403) {
      // Until it has expired.
    }
    await bucket.delete("a/1.png");
    await bucket.delete("a/1.png");
    assert.equal(await bucket.get("a/1.png"), undefined);
  });

  test("images of calls have signed URLs, which stand in no log", limit, async (t) => {
    const { generate, process } = await startPipeline(t, { more: ["--log-level", "trace"] });
    const [first, second] = [await generate("a"), await generate("a")];
    assert.match(first.url, /\/images\/some\/prefix\/[0-9a-f]{32}\.png\?.*X-Amz-Signature=/);
    const response = await fetch(first.url);
    assert.equal((await response.arrayBuffer()).byteLength, first.fileSize);
    assert.equal(response.headers.get("cache-control"), "public, max-age=31536000, immutable");
    assert.equal(await statusOf(second.url), 200);
    assert.ok(!process.stderr.includes("X-Amz") && !process.stderr.includes("secret-one"));
  });

  test("images of jobs are read by new URLs, and deleted with the job", limit, async (t) => {
    const { jobs, process, url: base } = await startPipeline(t, { more: ["--jobs", await temporaryFolder()] });
    const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt: "a" } } });
    const done = await lastOf({ jobs }, job);
    const url = imageUrl(done);
    const ownPath = `/images/jobs/${done.id}/${new URL(url).pathname.split("/").at(-1)}`;
    assert.equal(await statusOf(`${base}${ownPath}`), 404, "the pipeline's own path would outlive the URL");
    assert.match(url, new RegExp(`/images/some/prefix/jobs/${done.id}/[0-9a-f]{32}\\.png\\?`));
    assert.equal(await statusOf(url), 200);
    const again = await jobs.getJob({ id: done.id });
    assert.equal(await statusOf(imageUrl(again.job ?? assert.fail())), 200);
    await jobs.deleteJob({ id: done.id });
    assert.equal(await statusOf(url), 404);
    assert.ok(!process.stderr.includes("X-Amz"));
  });

  test("while the store is away, calls fail with the reason, and a job waits with its image", limit, async (t) => {
    const own = await startVersitygw(program);
    t.after(() => own.remove());
    const { generate, jobs, worker, process } = await startPipeline(t, {
      of: own,
      more: ["--jobs", await temporaryFolder()],
    });
    await generate("before");
    const earlier = await jobs.createJob({ work: { case: "generate", value: { prompt: "earlier" } } });
    const stored = await lastOf({ jobs }, earlier.job);
    await own.end("SIGKILL");
    await assert.rejects(
      jobs.deleteJob({ id: stored.id }),
      /cannot be deleted at the moment, so the job is kept: delete it again/,
    );
    await jobs.getJob({ id: stored.id });
    await assert.rejects(generate("away"), (error) => {
      assert.equal(
        ConnectError.from(error).message,
        "[unavailable] the image cannot be stored: the image store is not available; the server's log has the reason",
      );
      return true;
    });
    assert.match(process.stderr, /cannot be reached \(ECONNREFUSED\)/);
    const { job } = await jobs.createJob({ work: { case: "generate", value: { prompt: "waits" } } });
    const ended = lastOf({ jobs }, job);
    await worker.began("waits");
    await process.waitFor(/the image cannot be stored yet/);
    await own.start();
    const done = await ended;
    assert.equal(JobState[done.state], "SUCCEEDED");
    assert.equal(await statusOf(imageUrl(done)), 200);
    assert.deepEqual(
      worker.begun.filter((prompt) => prompt === "waits"),
      ["waits"],
      "it was generated once",
    );
    await generate("after");
    await jobs.deleteJob({ id: stored.id });
    assert.equal(await statusOf(imageUrl(stored)), 404);
  });

  test("a rotated key in the shared file is used without a restart", limit, async (t) => {
    const own = await startVersitygw(program);
    t.after(() => own.remove());
    const file = join(await temporaryFolder(), "credentials");
    const write = (secret: string) =>
      writeFileSync(file, `[default]\naws_access_key_id = tester\naws_secret_access_key = ${secret}\n`);
    write("secret-one");
    const { AWS_ACCESS_KEY_ID: _id, AWS_SECRET_ACCESS_KEY: _secret, ...rest } = variables();
    const environment = {
      ...rest,
      AWS_SHARED_CREDENTIALS_FILE: file,
      AWS_ACCESS_KEY_ID: "",
      AWS_SECRET_ACCESS_KEY: "",
    };
    const { generate } = await startPipeline(t, { of: own, environment });
    assert.equal(await statusOf((await generate("one")).url), 200);
    await own.end("SIGTERM");
    await own.start("secret-two");
    await assert.rejects(generate("two"), /the image store is not available/);
    write("secret-two");
    assert.equal(await statusOf((await generate("three")).url), 200);
  });

  const isRoot = process.getuid?.() === 0;
  test("full store", { ...limit, skip: !isRoot && "only root can mount a small file system" }, async (t) => {
    const folder = mkdtempSync(join(tmpdir(), "throughline-s3-full-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]);
    const own = await startVersitygw(program, folder);
    t.after(async () => {
      await own.end("SIGKILL");
      execFileSync("umount", [folder]);
      rmSync(folder, { recursive: true });
    });
    const { generate, process } = await startPipeline(t, { of: own });
    writeFileSync(join(folder, "ballast"), new Uint8Array(60 * 1024));
    await assert.rejects(async () => {
      for (let index = 0; index < 20; index++) {
        await generate(`image ${index}`);
      }
    }, /the image cannot be stored: the image store is full$/);
    assert.match(process.stderr, /no space is left in s3:\/\/images at /);
    rmSync(join(folder, "ballast"));
    assert.equal(await statusOf((await generate("again")).url), 200);
  });

  const wrong: [name: string, flags: () => string[], environment: Record<string, string>, message: RegExp][] = [
    [
      "bucket",
      () => ["--image-store", "s3://nowhere"],
      {},
      /there is no bucket nowhere; create it, or correct --image-store/,
    ],
    ["secret", () => [], { AWS_SECRET_ACCESS_KEY: "wrong" }, /rejects the signature; correct AWS_SECRET_ACCESS_KEY/],
    ["access key", () => [], { AWS_ACCESS_KEY_ID: "wrong" }, /does not know the access key; correct AWS_ACCESS_KEY_ID/],
    ["region", () => [], { AWS_REGION: "eu-north-1" }, /in another region; set AWS_REGION to it/],
    [
      "endpoint",
      () => ["--s3-endpoint", "http://127.0.0.1:9"],
      {},
      /cannot be reached \(ECONNREFUSED\); check that it runs, and --s3-endpoint/,
    ],
    [
      "path style",
      () => ["--s3-force-path-style=false", "--s3-endpoint", store.endpoint.replace("127.0.0.1", "localhost")],
      {},
      /--s3-force-path-style|cannot be reached|no bucket/,
    ],
  ];
  for (const [name, more, environment, message] of wrong) {
    test(`wrong ${name} is an error at the start`, limit, async (t) => {
      const command = startCommand(
        t,
        ["pipeline", "--port", "0", "--worker", `${jobApp}=127.0.0.1:1`, ...flags(), ...more()],
        { ...variables(), ...environment },
      );
      assert.equal((await command.ended).code, 1);
      assert.match(command.stderr, message);
      assert.ok(!command.stderr.includes("secret-one"));
      t.diagnostic(command.stderr.trim().split("\n").at(-1) ?? "");
    });
  }
});
