import assert from "node:assert/strict";
import { once } from "node:events";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, before, suite, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { runProgram } from "../../src/cli/program.js";
import { JobSchema, JobService, JobState } from "../../src/gen/throughline/v1/job_pb.js";
import { GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createHeldEngine } from "../support/held-engine.js";
import { fillTestFolder } from "../support/job-database.js";
import { createSwitchEngine, type JobMesh, startJobMesh } from "../support/job-mesh.js";
import { listenOnLoopback } from "../support/listen-on-loopback.js";
import { runInProcess } from "./support/run-in-process.js";

const { engine, use } = createSwitchEngine();
let mesh: JobMesh;
before(async () => {
  mesh = await startJobMesh({ engines: [engine] });
});
after(() => mesh.stop());

const run = (...args: readonly string[]) => runInProcess([...args, "--server", mesh.url]);
const idIn = (text: string) => /[0-9a-f]{32}/.exec(text)?.[0] ?? assert.fail(text);

suite("throughline submit", () => {
  test("submit prints the job and the command that watches it", async () => {
    const { code, stdout } = await run("submit", "a red heart");
    assert.equal(code, 0);
    assert.match(
      stdout,
      /^[0-9a-f]{32} {2}(?:queued|running).*\nWatch it: .*throughline.* jobs watch [0-9a-f]{32} .*\n$/,
    );
    assert.ok(stdout.endsWith(` ${idIn(stdout)} --server ${mesh.url}\n`), stdout);
    const quiet = await run("submit", "a red heart", "--quiet");
    assert.match(quiet.stdout, /^[0-9a-f]{32} .*\n$/);
  });

  test("submit --wait writes the image, and prints the job as JSON", async () => {
    use(createFakeEngine());
    const out = join(await temporaryFolder(), "heart.png");
    const { code, stdout, stderr } = await run("submit", "a red heart", "--wait", "--json", "--out", out);
    assert.equal(code, 0, stderr);
    const job = JSON.parse(stdout);
    assert.equal(job.state, "SUCCEEDED");
    assert.equal(job.image.path, out);
    assert.equal((await readFile(out)).toString("latin1", 1, 4), "PNG");
    const plain = await run("submit", "a red heart", "--wait", "--out", out);
    assert.match(plain.stdout, /heart\.png {2}64×64 image\/png/);
  });

  test("submit --wait whose image cannot be fetched or written says that the job succeeded, and how to get it", async (t) => {
    const id = "0123456789abcdef".repeat(2);
    const image = { fileName: `${"0".repeat(32)}.png`, contentType: "image/png", fileSize: 8, width: 64, height: 64 };
    const result = { seed: 1, image: { ...image, url: `http://127.0.0.1:1/images/jobs/${id}/${image.fileName}` } };
    const job = create(JobSchema, {
      id,
      state: JobState.SUCCEEDED,
      expireTime: timestampFromDate(new Date("2030-01-01T00:00:00Z")),
      detail: { case: "result", value: create(GenerateResponseSchema, result) },
    });
    const services = connectNodeAdapter({
      routes: ({ rpc }) => {
        rpc(JobService.method.createJob, () => ({ job }));
        rpc(JobService.method.watchJob, async function* () {
          yield { job };
        });
      },
    });
    const { url } = await listenOnLoopback(t, createHttpServer(services));
    const get = `curl --fail --output ${image.fileName} ${url}/images/jobs/${id}/${image.fileName}`;
    const folder = await temporaryFolder();
    const out = join(folder, "cat.png");
    const unfetched = await runInProcess(["submit", "a cat", "--wait", "--json", "--out", out, "--server", url]);
    assert.equal(unfetched.code, 1);
    assert.equal(
      unfetched.message,
      `job ${id} has succeeded, but its image is not saved: cannot fetch the image from ${result.image.url}: bad port. The pipeline keeps it until 2030-01-01T00:00:00.000Z: ${get}`,
    );
    assert.equal(JSON.parse(unfetched.stdout).state, "SUCCEEDED");

    const held = createHeldEngine();
    use(held.engine);
    const unwriting = run("submit", "a cat", "--wait", "--out", out);
    await held.reached;
    await rm(folder, { recursive: true });
    held.release();
    const unwritten = await unwriting;
    assert.equal(unwritten.code, 1);
    const [, command = ""] =
      /is not saved: .*folder does not exist\. .* until .*Z: (curl .*)$/.exec(unwritten.message) ??
      assert.fail(unwritten.message);
    assert.equal((await fetch(command.split(" ").at(-1) ?? "")).status, 200);
  });

  test("submit with one request id makes one job, and of another request an error", async () => {
    const first = await run("submit", "once", "--seed", "1", "--request-id", "r1", "--json");
    const second = await run("submit", "once", "--seed", "1", "--request-id", "r1", "--json");
    assert.equal(JSON.parse(second.stdout).id, JSON.parse(first.stdout).id);
    const other = await run("submit", "other", "--request-id", "r1");
    assert.equal(other.code, 1);
    assert.match(other.message, /ALREADY_EXISTS: request_id: another request of this caller has it/);
  });

  test("submit with wrong values exits with 2, and with those that the server rejects with 1, without a job", async () => {
    const cases: [string[], number, RegExp][] = [
      [["--priority", "urgent"], 2, /--priority/],
      [["--start-timeout", "0"], 2, /--start-timeout/],
      [["--result-ttl", "604801"], 2, /--result-ttl/],
      [["--out", "x.png"], 2, /--out needs --wait/],
      [["--webhook", "https://hooks.example.com/"], 1, /webhook_url: .*--webhook-hosts.*set by --webhook/],
      [["--worker-app", "no/app"], 1, /NOT_FOUND/],
    ];
    for (const [flags, expected, reason] of cases) {
      const { code, message } = await run("submit", "a cat", ...flags);
      assert.equal(code, expected, flags.join(" "));
      assert.match(message, reason);
    }
    const tooLong = await run("submit", "x".repeat(2001));
    assert.equal(tooLong.code, 1);
    assert.match(tooLong.message, /INVALID_ARGUMENT.*2,?000/);
  });

  test("submit whose connection is lost says how to repeat it without a second job", async (t) => {
    const server = createServer((socket) => void socket.once("data", () => socket.destroy()));
    const { url } = await listenOnLoopback(t, server);
    const { code, message } = await runInProcess(["submit", "a cat", "--server", url]);
    assert.equal(code, 1);
    assert.match(message, /The job may have been created: .*--request-id [0-9a-f-]{36} creates no second one$/);
  });

  test("submit --wait of a job that fails exits with 1 and its error", async () => {
    const { code, message } = await run("submit", " \t ", "--wait", "--out", "-");
    assert.equal(code, 1);
    assert.match(message, /^job [0-9a-f]{32} has failed: INVALID_ARGUMENT: prompt/);
  });
});

suite("throughline jobs", () => {
  test("jobs shows, watches, cancels and deletes a job", async () => {
    const held = createHeldEngine(2);
    use(held.engine);
    const running = idIn((await run("submit", "runs")).stdout);
    await held.reached;
    const waiting = idIn((await run("submit", "waits")).stdout);
    const queued = await run("jobs", "get", waiting);
    assert.match(queued.stdout, /^[0-9a-f]{32} {2}queued {5}next.*\nprompt {2}waits\ntrace {3}[0-9a-f]{32}\n$/);
    assert.match((await run("jobs", "get", running.toUpperCase())).stdout, /^[0-9a-f]{32} {2}running\b/);
    const table = (await run("jobs", "list", "--limit", "2")).stdout;
    assert.match(table, /^JOB +STATE +AGE +DETAIL +PROMPT\n/);
    assert.match(table, new RegExp(`\n${waiting} +queued +\\d+ s +next.* waits\n${running} +running .* runs\n$`));
    assert.match((await run("jobs", "cancel", waiting)).stdout, /^[0-9a-f]{32} {2}cancelled {2}before its start\n/);
    const cancelled = await run("jobs", "watch", waiting);
    assert.equal(cancelled.code, 1);
    held.release();
    const watched = await run("jobs", "watch", running);
    assert.equal(watched.code, 0);
    assert.match(
      watched.stdout,
      /^[0-9a-f]{32} {2}succeeded {2}64×64, seed \d+, .* s\nprompt {2}runs\nimage {3}http:\S+\/images\/jobs\/\S+\ntrace .*\n$/,
    );
    const { stdout } = await run("jobs", "get", running, "--json");
    assert.equal((await run("jobs", "watch", running, "--json")).stdout, stdout, "a job that has ended has one state");
    assert.equal((await fetch(JSON.parse(stdout).imageUrl)).status, 200);

    assert.equal((await run("jobs", "delete", running)).stdout, `job ${running} is deleted\n`);
    const gone = await run("jobs", "get", running);
    assert.equal(gone.code, 1);
    assert.match(gone.message, /NOT_FOUND: no such job of this caller: it was deleted or has expired/);
    assert.equal((await fetch(JSON.parse(stdout).imageUrl)).status, 404);
  });

  test("jobs watch --json prints each state of a job as a line", async () => {
    const held = createHeldEngine(2);
    use(held.engine);
    const id = idIn((await run("submit", "steps")).stdout);
    await held.reached;
    const stdout = new PassThrough({ encoding: "utf8" });
    const streams = { stdout, stderr: new PassThrough() };
    const context = { ...streams, environment: {}, interrupt: new AbortController().signal, supervisor: undefined };
    const watching = runProgram(["jobs", "watch", id, "--json", "--server", mesh.url], context);
    await once(stdout, "readable");
    held.release();
    assert.equal(await watching, 0);
    const printed = String(stdout.read());
    assert.ok(printed.endsWith("}\n"), printed);
    const lines: { id: string; state: string }[] = printed
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line));
    assert.ok(lines.length >= 2, printed);
    assert.deepEqual(new Set(lines.map((line) => line.id)), new Set([id]));
    assert.deepEqual(lines.map(({ state }) => state).toSorted(), [
      ...Array.from({ length: lines.length - 1 }, () => "RUNNING"),
      "SUCCEEDED",
    ]);
    assert.equal(lines.at(-1)?.state, "SUCCEEDED");
    assert.equal(new Set(lines.map((line) => JSON.stringify(line))).size, lines.length, printed);
  });

  test("jobs list reads more than one page, and prints JSON", async () => {
    const listed = await run("jobs", "list", "--json", "--limit", "3");
    assert.equal(JSON.parse(listed.stdout).jobs.length, 3);
  });

  test("jobs with a wrong id exits with 2, and without a server with 1 and what to do", async () => {
    assert.deepEqual([(await run("jobs", "get", "12")).code, (await run("jobs", "get", "x".repeat(32))).code], [2, 2]);
    const { code, message } = await runInProcess(["jobs", "list", "--server", "http://127.0.0.1:1"]);
    assert.equal(code, 1);
    assert.match(message, /cannot reach http:\/\/127\.0\.0\.1:1: UNAVAILABLE.*--server/);
  });

  test("pipeline with a webhook host that can never get one exits with 2 before it opens anything", async () => {
    const folder = await temporaryFolder();
    const secret = join(folder, "secret");
    await writeFile(secret, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw9m4Yl4kyXno=");
    const flags = ["--port", "0", "--jobs", join(folder, "jobs"), "--webhook-secret-file", secret];
    const { code, message } = await runInProcess([
      "pipeline",
      ...flags,
      "--webhook-hosts",
      "10.0.0.1,hooks.example.com",
    ]);
    assert.equal(code, 2);
    assert.match(
      message,
      /^--webhook-hosts 10\.0\.0\.1: webhooks are sent to public addresses only; --webhook-loopback/,
    );
    assert.deepEqual(await readdir(folder), ["secret"]);
  });

  test("jobs migrate and redrive open the database of --jobs, and name the remedy where they cannot", async () => {
    const folder = await temporaryFolder();
    await fillTestFolder(folder);
    const migrated = await runInProcess(["jobs", "migrate", "--jobs", folder]);
    assert.deepEqual([migrated.code, migrated.stdout], [0, "the jobs' database is up to date\n"]);
    const redriven = await runInProcess(["jobs", "redrive", "--jobs", folder]);
    assert.deepEqual([redriven.code, redriven.stdout], [0, "0 webhooks are sent again\n"]);
    const away = await runInProcess(["jobs", "migrate", "--jobs", "postgres://me:secret@127.0.0.1:1/mine"]);
    assert.equal(away.code, 1);
    assert.match(away.message, /^cannot open the jobs' database mine at 127\.0\.0\.1:1: .*Check that it runs/);
    assert.doesNotMatch(away.message, /secret/);
  });
});
