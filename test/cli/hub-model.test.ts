import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { before, suite, test } from "node:test";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { startHub } from "../support/hub-server.js";
import { runCommand, startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

// Two at a time: most of it is waiting for processes to load.
suite("--model with a Hub model", { concurrency: 2 }, async () => {
  const home = await temporaryFolder();
  const repository = join(home, "repository");
  before(() => makeSdxlFolder(repository, { dataFile: "model.onnx_data" }));

  test("demo downloads a Hub model, generates, and loads it offline under its id the next time", async (t) => {
    const token = "hf_very_secret";
    const hub = await startHub({ folder: repository, token });
    const environment = {
      HF_HOME: join(home, "demo"),
      HF_ENDPOINT: `${hub.url}/`,
      HF_TOKEN: token,
      HF_HUB_OFFLINE: "",
    };
    const out = join(home, "1.png");
    const args = ["demo", "a heart", "--model", "acme/tiny-xl", "--steps", "2", "--out", out];
    const { code, stdout, stderr } = await runCommand(t, args, environment);
    assert.equal(code, 0, stderr);
    assert.match(stderr, /^downloading the model: 0% of 1 MiB\n(?:.*\n)*downloading the model: 100% of 1 MiB$/m);
    assert.doesNotMatch(stdout + stderr, /secret/);
    assert.ok(hub.requests.every(({ host, authorization }) => (host === "hub") === (authorization !== undefined)));

    await hub.close();
    const worker = startCommand(t, ["worker", "--port", "0", "--model", "acme/tiny-xl"], environment);
    await worker.waitFor(/"model":"acme\/tiny-xl".*"msg":"engine ready"/);
    assert.doesNotMatch(worker.stderr, /downloading/);
    worker.kill("SIGTERM");
    await worker.ended;
  });

  test("worker downloads a Hub model and logs the progress", async (t) => {
    const hub = await startHub({ folder: repository });
    const worker = startCommand(t, ["worker", "--port", "0"], {
      THROUGHLINE_MODEL: `acme/tiny-xl@${hub.commit}`,
      HF_HUB_CACHE: join(home, "worker"),
      HF_ENDPOINT: hub.url,
      HF_HUB_OFFLINE: "",
    });
    await worker.waitFor(/is ready at/);
    assert.match(
      worker.stderr,
      /"model":"acme\/tiny-xl@0123456789abcdef\w+","msg":"downloading the model: 100% of 1 MiB"/,
    );
    assert.match(worker.stderr, /"model":"acme\/tiny-xl".*"msg":"engine ready"/);
    worker.kill("SIGTERM");
    assert.deepEqual(await worker.ended, { code: 0, signal: null });
  });

  test("command with an unavailable Hub model ends with its id and the remedy", async (t) => {
    const environment = { HF_HOME: join(home, "none"), HF_HUB_OFFLINE: "1" };
    await mkdir(environment.HF_HOME);
    const [demo, worker, neither] = await Promise.all([
      runCommand(t, ["demo", "--model", "acme/other", "--out", join(home, "3.png")], environment),
      runCommand(t, ["worker", "--port", "0", "--model", "acme/other", "--log-level", "silent"], environment),
      runInProcess(["worker", "--port", "0", "--model", "a/b/c"], { environment }),
    ]);
    const words =
      /model acme\/other: it is not in \S+none\/hub, and HF_HUB_OFFLINE is set; unset it once \(and there is no folder \S+acme\/other\)$/m;
    for (const { code, stderr } of [demo, worker]) {
      assert.equal(code, 1);
      assert.match(stderr, words);
    }
    assert.equal(neither.code, 2);
    assert.match(
      neither.message,
      /^--model must be a folder, a .safetensors file or a model of the Hugging Face Hub such as owner/m,
    );
  });
});
