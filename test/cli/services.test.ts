import assert from "node:assert/strict";
import { mkdir, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { createPipelineClient } from "../../src/client/client.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { runCommand, startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const readyAt = /^\S+ is ready at (http:\/\/127\.0\.0\.1:(\d+))$/m;

// Two at a time: most of it is waiting for processes to load.
suite("services as processes", { concurrency: 2 }, async () => {
  const folder = await temporaryFolder();
  const model = join(folder, "quick");
  const slowModel = join(folder, "slow");
  before(async () => {
    await makeSdxlFolder(model);
    await makeSdxlFolder(slowModel, { unetWork: 20 });
  });

  /** A worker and a pipeline that knows it. */
  const startBoth = async (t: TestContext, modelFolder: string, pipelineFlags: readonly string[] = []) => {
    // More grace than a busy machine needs for an image.
    const common = ["--port", "0", "--grace", "150"];
    const worker = startCommand(t, ["worker", "--app", "acme/worker", "--model", modelFolder, ...common]);
    const [, , workerPort] = await worker.waitFor(readyAt);
    const target = `acme/worker=127.0.0.1:${workerPort}`;
    const pipeline = startCommand(t, ["pipeline", "--worker", target, ...common, ...pipelineFlags]);
    const [, url = ""] = await pipeline.waitFor(readyAt);
    return { worker, pipeline, url };
  };

  test("services generate by data URI and by URL, with the same bytes for the same seed", async (t) => {
    const images = join(folder, "images");
    const { worker, pipeline, url } = await startBoth(t, model, ["--images", images, "--http1-keepalive", "120"]);
    assert.equal((await fetch(`${url}/readyz`)).headers.get("keep-alive"), "timeout=120");
    assert.match(worker.stdout, /^acme\/worker is ready at http:\/\/127\.0\.0\.1:\d+\n$/);
    const environment = { THROUGHLINE_SERVER: url };
    const generateArgs = (seed: number, out: string) =>
      ["generate", "a red heart", "--seed", String(seed), "--steps", "2", "--out", out, "--json"] as const;
    const outs = ["1.png", "2.png", "3.png"].map((name) => join(folder, name));
    const [first = "", second = "", third = ""] = outs;
    const results = await Promise.all([
      runCommand(t, generateArgs(7, first), environment),
      runInProcess(generateArgs(7, second), { environment }),
      runInProcess(generateArgs(8, third), { environment }),
    ]);
    for (const { code, stderr } of results) {
      assert.equal(stderr, "");
      assert.equal(code, 0);
    }
    const [a, b, c] = await Promise.all(outs.map((out) => readFile(out)));
    assert.ok(a && b && c && a.equals(b) && !a.equals(c));
    assert.equal((await readdir(images)).length, 2);
    const { traceId, ...rest } = JSON.parse(results[0].stdout);
    assert.match(traceId, /^[0-9a-f]{32}$/);
    assert.deepEqual(rest, {
      seed: 7,
      image: { path: first, width: 64, height: 64, contentType: "image/png", fileSize: a.length },
    });

    // A person sees the stages and the file; errors come in words.
    const shown = await runInProcess(["generate", "a", "heart", "--server", url, "--out", first, "--width", "128"]);
    assert.match(shown.stdout, /1\.png {2}128×64 image\/png, \d KiB, seed \d+\ntrace [0-9a-f]{32}\n$/);
    assert.match(shown.stderr, /^denoising$/m);
    const unknown = await runInProcess(["generate", "a heart", "--server", url, "--worker-app", "acme/other"]);
    assert.equal(unknown.code, 1);
    assert.match(unknown.message, /^http:\/\/\S+ answered NOT_FOUND: .*acme\/worker$/);

    for (const service of [worker, pipeline]) {
      service.kill("SIGTERM");
      assert.deepEqual(await service.ended, { code: 0, signal: null });
      assert.deepEqual(service.living(), []);
    }
    const rejected = await runCommand(t, ["generate", "a heart", "--server", url, "--quiet"]);
    assert.equal(rejected.code, 1);
    assert.match(rejected.stderr, /^throughline: cannot reach http:\/\/\S+: UNAVAILABLE: .*ECONNREFUSED.*\n$/);
    for (const { stdout, stderr } of [worker, pipeline]) {
      assert.doesNotMatch(stdout + stderr, /heart/);
    }
  });

  /** A call of the pipeline that runs: its first denoising step is done. */
  const startCall = async (url: string, numInferenceSteps: number) => {
    const client = createPipelineClient({ transport: createConnectTransport({ baseUrl: url, httpVersion: "1.1" }) });
    const request = { prompt: "a heart", options: { numInferenceSteps } };
    const events = client.generateStream({ request })[Symbol.asyncIterator]();
    const next = async () => (await events.next()).value?.event;
    for (let event = await next(); event?.case !== "progress" || event.value.step < 1; event = await next()) {
      assert.ok(event);
    }
    /** Resolves with the image's media type; rejects with the call's error. */
    const result = async () => {
      for (let event = await next(); event !== undefined; event = await next()) {
        if (event.case === "result") {
          return event.value.image?.contentType;
        }
      }
      return undefined;
    };
    return { client, result };
  };
  const unavailable = (error: unknown) => ConnectError.from(error).code === Code.Unavailable;

  test("running call completes after SIGTERM to both services", async (t) => {
    const { worker, pipeline, url } = await startBoth(t, slowModel);
    const { result } = await startCall(url, 12);
    worker.kill("SIGTERM");
    pipeline.kill("SIGTERM");
    await Promise.all([worker.waitFor(/is draining/), pipeline.waitFor(/is draining/)]);
    assert.equal(await result(), "image/png");
    for (const service of [worker, pipeline]) {
      assert.deepEqual(await service.ended, { code: 0, signal: null });
      assert.deepEqual(service.living(), []);
    }
  });

  test("worker killed during a call is UNAVAILABLE for the client, and the pipeline keeps running", async (t) => {
    const { worker, pipeline, url } = await startBoth(t, slowModel);
    const { client, result } = await startCall(url, 150);
    worker.kill("SIGKILL");
    await assert.rejects(result(), unavailable);
    await worker.gone();
    await assert.rejects(client.generate({ prompt: "a heart" }), unavailable);
    pipeline.kill("SIGTERM");
    assert.deepEqual(await pipeline.ended, { code: 0, signal: null });
  });

  test("second signal ends a draining worker and its engine at once", async (t) => {
    const { worker, url } = await startBoth(t, slowModel);
    const { result } = await startCall(url, 150);
    worker.killGroup("SIGINT");
    await worker.waitFor(/is draining/);
    // Signals that come close together count as one keypress.
    const again = setInterval(() => worker.killGroup("SIGINT"), 100);
    t.after(() => clearInterval(again));
    assert.deepEqual(await worker.ended, { code: 130, signal: null });
    clearInterval(again);
    await assert.rejects(result(), unavailable);
    await worker.gone();
  });

  test("failed start prints one line, exits with 1 and leaves no process", async (t) => {
    const empty = join(folder, "no model");
    await mkdir(empty);
    const quiet = ["--log-level", "silent"];
    const wrongModel = startCommand(t, ["worker", "--port", "0", "--model", empty, ...quiet]);
    assert.deepEqual(await wrongModel.ended, { code: 1, signal: null });
    assert.deepEqual(wrongModel.living(), []);
    assert.match(wrongModel.stderr, /^throughline: .*no model: model_index\.json: .*\n$/);
    assert.equal(wrongModel.stdout, "");

    const first = startCommand(t, ["collector", "--port", "0"]);
    const [, , port = ""] = await first.waitFor(readyAt);
    for (const command of ["collector", "pipeline"]) {
      const second = startCommand(t, [command, "--port", port, ...quiet]);
      assert.deepEqual(await second.ended, { code: 1, signal: null });
      assert.match(
        second.stderr,
        new RegExp(
          `^throughline: .* cannot start: 127\\.0\\.0\\.1:${port} is in use\\. .*--port takes another port.*\\n$`,
        ),
      );
    }
  });
});
