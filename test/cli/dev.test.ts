import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { readdir, readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import { get as httpsGet } from "node:https";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify, stripVTControlCharacters } from "node:util";
import { describeDevice } from "../../src/cli/commands/dev.js";
import { lockJobFolder } from "../../src/jobs/folder-lock.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { type RunningCommand, runCommand, startCommand, startFromCheckout } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

test("dev names the device in use, and where to look up why auto did not take a better one", () => {
  assert.match(describeDevice("cpu", "auto", ["cuda", "webgpu"]), /^running on cpu \(`.* doctor` says why no GPU\)\n$/);
  assert.match(describeDevice("webgpu", "auto", ["cuda"]), /^running on webgpu \(`.* doctor` says why not cuda\)\n$/);
  assert.equal(describeDevice("cuda", "auto", []), "running on cuda\n");
  assert.equal(describeDevice("cpu", "cpu", []), "running on cpu\n");
});

const root = fileURLToPath(new URL("../..", import.meta.url));

suite("throughline dev", async () => {
  const model = join(await temporaryFolder(), "model");
  before(() => makeSdxlFolder(model));
  const jobs = join(await temporaryFolder(), "jobs");
  const flags = ["--jobs", jobs, "--pipeline-port", "0", "--worker-port", "0", "--collector-port", "0"];
  const args = ["dev", "--model", model, ...flags];

  /** Signals all processes, as a terminal does, and expects that none is left, and no temporary folder. */
  const exits = async (dev: RunningCommand, signal: NodeJS.Signals, temporary: string) => {
    dev.killGroup(signal);
    assert.deepEqual(await dev.ended, { code: 0, signal: null });
    assert.deepEqual(dev.living(), []);
    assert.deepEqual(await readdir(temporary), []);
    assert.deepEqual(await readdir(jobs), [".gitignore", "images", "lock", "tls"], "no job opened the database");
  };

  test("pipeline of a checkout loads the SDK of an object store, which its bundle does not contain", async (t) => {
    const store = ["--image-store", "s3://images", "--s3-endpoint", "http://127.0.0.1:9", "--s3-force-path-style"];
    const args = ["pipeline", "--port", "0", "--worker", "a/b=127.0.0.1:9", ...store];
    // With credentials, the SDK does not look for others on the network.
    const pipeline = startFromCheckout(t, args, { AWS_ACCESS_KEY_ID: "a", AWS_SECRET_ACCESS_KEY: "b" });
    assert.equal((await pipeline.ended).code, 1);
    assert.match(pipeline.stderr, /s3:\/\/images at http:\/\/127\.0\.0\.1:9: cannot be reached/);
  });

  test("dev prints commands that work, and ends all services when one dies", async (t) => {
    const dev = startFromCheckout(t, [...args, "--tls-self-signed"]);
    await dev.waitFor(/Ctrl-C/);
    const run = async (line: RegExp, traceId = "", more = "") => {
      const command = `${line.exec(dev.stdout)?.[0].trim().replace("<trace id>", traceId) ?? "false"}${more}`;
      const { stdout } = await promisify(execFile)("bash", ["-c", command], { cwd: root });
      return stdout;
    };
    const out = join(await temporaryFolder(), "heart.png");
    const generated = await run(/npm run throughline -- generate .*/, "", ` --out ${out}`);
    assert.match(generated, /^\S+heart\.png {2}64×64 image\/png/m);
    assert.match(generated, /^image-pipeline /m);
    assert.equal((await readFile(out)).toString("latin1", 1, 4), "PNG");

    const pipeline = /pipeline +(\S+)/.exec(dev.stdout)?.[1];
    const answer = await fetch(`${pipeline}/throughline.v1.ImagePipelineService/Generate`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"prompt": "a red heart"}',
    });
    const { image, trace_id: traceId } = JSON.parse(await answer.text());
    const fetched = await fetch(image.url);
    assert.equal(fetched.headers.get("content-type"), "image/png");
    assert.equal((await fetched.arrayBuffer()).byteLength, image.file_size);

    assert.ok(existsSync(join(jobs, "images", image.file_name)));

    // The lines for fal's clients, whose https is on the same port.
    const [, host = "", cert = ""] = /FAL_QUEUE_RUN_HOST=(\S+) .*SSL_CERT_FILE=(\S+)$/m.exec(dev.stdout) ?? [];
    assert.match(dev.stdout, new RegExp(`^  JavaScript .*"${pipeline}/fal/proxy", when: "always"`, "m"));
    const secure = httpsGet(`https://${host}/fal/nothing`, { ca: await readFile(cert) });
    const [status]: IncomingMessage[] = await once(secure, "response");
    assert.deepEqual([status?.resume().statusCode, status?.headers["x-fal-error-type"]], [404, "not_found"]);

    const collector = /collector +(\S+)/.exec(dev.stdout)?.[1];
    const trace = await (await fetch(`${collector}/traces/${traceId}?spans=6&wait=20000`)).text();
    assert.equal(JSON.parse(trace).spans.length, 6);
    assert.match(await run(/npm run throughline -- trace .*/, traceId), /^image-pipeline .*\n├── preprocess-prompt /m);
    await dev.waitFor(new RegExp(`^Generate  OK  [\\d.]+ m?s  trace ${traceId}$`, "m"));

    const worker = dev.living().find((line) => / worker$/.test(line));
    process.kill(Number.parseInt(worker ?? "", 10), "SIGKILL");
    assert.deepEqual(await dev.ended, { code: 1, signal: null });
    assert.match(dev.stderr, /^throughline: the worker was ended by SIGKILL; the others are stopped\n$/m);
    assert.deepEqual(dev.living(), []);
  });

  test("dev --json prints its services and each request with its trace, which generate and trace show too, until SIGHUP", async (t) => {
    const temporary = await temporaryFolder();
    const dev = startCommand(t, [...args, "--json", "--log-level", "info"], { TMPDIR: temporary });
    await dev.waitFor(/"kind":"ready".*\n/);
    const { kind, pipeline, worker, collector, studio, ...rest } = JSON.parse(dev.stdout);
    assert.deepEqual(rest, { jobs });
    assert.equal(kind, "ready");
    for (const url of [worker, studio]) {
      assert.match(url, /^http:/);
    }
    const out = join(await temporaryFolder(), "heart.png");
    const flags = ["--server", pipeline, "--collector", collector, "--out", out];
    const generated = await runInProcess(["generate", "a heart", ...flags, "--steps", "2"], {
      isTTY: true,
      columns: 100,
    });
    assert.equal(generated.message, "");
    assert.match(stripVTControlCharacters(generated.stdout), /\nimage-pipeline .*\n(.*\n){4}.*└── upload .*\n$/);
    assert.match(generated.stderr, /[░⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]/);

    await dev.waitFor(/"kind":"request".*\n/);
    const request = JSON.parse(dev.stdout.trimEnd().split("\n").at(-1) ?? "");
    assert.equal(request.kind, "request");
    assert.equal(request.method, "GenerateStream");
    assert.equal(request.statusCode, "OK");
    assert.equal(request.spans.length, 6);
    assert.ok(generated.stdout.includes(`trace ${request.traceId}\n`));

    const { stdout } = await runInProcess(["trace", request.traceId, "--collector", collector, "--json"]);
    assert.deepEqual(JSON.parse(stdout).spans, request.spans);
    const listed = await runInProcess(["traces", "--collector", collector, "--json"]);
    assert.equal(JSON.parse(listed.stdout).traces[0].traceId, request.traceId);
    // Logs of the services go on, beside it.
    assert.match(dev.stderr, /"msg":"the collector is ready"/);
    await exits(dev, "SIGHUP", temporary);
  });

  // Another test has SIGHUP; each of them starts all services.
  for (const signal of process.env["THOROUGH"] === "1" ? (["SIGINT", "SIGQUIT"] as const) : (["SIGINT"] as const)) {
    test(`dev exits with 0 at ${signal} and leaves no process and no temporary folder`, async (t) => {
      const temporary = await temporaryFolder();
      const dev = startCommand(t, args, { TMPDIR: temporary });
      await dev.waitFor(/Ctrl-C/);
      // The studio comes first, and the device in use is one line.
      assert.match(dev.stdout, /^\nstudio {5}http:\/\/127\.0\.0\.1:\d+\/\n/);
      assert.doesNotMatch(dev.stderr, /"remedy"/);
      assert.match(dev.stderr, /^running on (?:cpu \(`\S.* doctor` says why no GPU\)|[a-z]+(?: \(`.*\))?)$/m);
      await exits(dev, signal, temporary);
    });
  }

  test("dev with a folder of --jobs that another one has open says so, and --jobs names another", async (t) => {
    const folder = await temporaryFolder();
    const unlock = await lockJobFolder(folder);
    t.after(unlock);
    const { code, stderr, stdout } = await runCommand(t, [...args, "--jobs", folder]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(
      stderr,
      new RegExp(`process ${process.pid} on \\S+ has the jobs' folder ${folder} open\\. Stop it, or name another`),
    );
  });

  test("dev with a --jobs folder that cannot be created fails before anything starts", async (t) => {
    const { code, stderr, stdout } = await runCommand(t, [...args, "--jobs", "/dev/null/jobs"]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(
      stderr,
      /^throughline: cannot create \/dev\/null\/jobs\/images for jobs and images: .*--jobs names another folder\n$/,
    );
  });

  test("dev with an --images folder that cannot be created fails before anything starts", async (t) => {
    const { code, stderr, stdout } = await runCommand(t, [...args, "--images", "/dev/null/images"]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(stderr, /^throughline: cannot create the folder of --images, \/dev\/null\/images: .*\n$/);
  });
});
