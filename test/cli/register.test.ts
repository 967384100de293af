import assert from "node:assert/strict";
import { join } from "node:path";
import { before, suite, type TestContext, test } from "node:test";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { steadyPort } from "../support/steady-port.js";
import { type RunningCommand, startCommand } from "./support/run-command.js";
import { runInProcess } from "./support/run-in-process.js";

const readyAt = /^\S+ is ready at (https?:\/\/\S+:(\d+))$/m;
const registered = /"msg":"registered at a pipeline"/g;

/** Number of times that a worker has logged its registration. */
const registrations = (worker: RunningCommand) => worker.stderr.match(registered)?.length ?? 0;

suite("workers that register themselves, as processes", { concurrency: 2 }, async () => {
  const folder = await temporaryFolder();
  const model = join(folder, "model");
  before(() => makeSdxlFolder(model));

  const startWorker = (t: TestContext, pipeline: string, flags: readonly string[] = []) =>
    startCommand(t, ["worker", "--model", model, "--device", "cpu", "--register", pipeline, "--port", "0", ...flags]);
  const startPipeline = async (t: TestContext, flags: readonly string[] = []) => {
    const pipeline = startCommand(t, ["pipeline", "--port", "0", ...flags]);
    const [, url = ""] = await pipeline.waitFor(readyAt);
    return { pipeline, url };
  };
  const generate = (server: string, ...flags: readonly string[]) =>
    runInProcess([
      "generate",
      "a heart",
      "--server",
      server,
      "--steps",
      "1",
      "--out",
      join(folder, "out.png"),
      "--json",
      ...flags,
    ]);

  test("worker is called by its app id without a file, drains, is killed, comes back, and is found by a pipeline that restarts", async (t) => {
    const port = await steadyPort();
    const { pipeline, url } = await startPipeline(t, ["--port", String(port), "--show-apps"]);
    const first = startWorker(t, url, ["--app", "acme/worker"]);
    await first.waitFor(registered);
    const app = ["--worker-app", "acme/worker"];
    assert.equal((await generate(url, ...app)).code, 0);
    const listed = JSON.parse((await runInProcess(["apps", "--pipeline", url, "--json"])).stdout).apps[0];
    assert.equal(listed.target, "registry:acme/worker");
    const { version } = listed.workers[0];
    assert.match(version, /^\d+\.\d+\.\d+/);
    const table = await runInProcess(["apps", "--pipeline", url]);
    assert.match(table.stdout, new RegExp(`WAIT +VERSION\\nacme/worker .* ${version}\\n`));

    first.kill("SIGTERM");
    assert.deepEqual(await first.ended, { code: 0, signal: null });
    await pipeline.waitFor(/"msg":"a worker has ended its registration"/);
    const none = await generate(url, ...app);
    assert.match(
      none.message,
      /answered UNAVAILABLE: no replica of acme\/worker is reachable: no worker is registered/,
    );

    const second = startWorker(t, url, ["--app", "acme/worker"]);
    await second.waitFor(registered);
    assert.equal((await generate(url, ...app)).code, 0);
    second.killGroup("SIGKILL");
    await second.ended;
    const lost = await generate(url, ...app);
    assert.match(lost.message, /answered UNAVAILABLE: /);
    const third = startWorker(t, url, ["--app", "acme/worker"]);
    await third.waitFor(registered);
    assert.equal((await generate(url, ...app)).code, 0);

    pipeline.kill("SIGKILL");
    await pipeline.ended;
    const again = startCommand(t, ["pipeline", "--port", String(port)]);
    await again.waitFor(/"msg":"a worker has registered"/);
    assert.equal((await generate(url, ...app)).code, 0);
    assert.equal(registrations(third), 2);
    assert.equal(third.stderr.match(/"level":"warn"[^\n]*pipeline/g)?.length, 2, third.stderr);
    third.kill("SIGTERM");
    assert.deepEqual(await third.ended, { code: 0, signal: null });
  });

  test("worker with a key registers over TLS, and the pipeline calls it over TLS by the name in its certificate", async (t) => {
    const authority = await createAuthority();
    const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
    const server = await writeCertificate(folder, "server", await authority.issue({ name: "pipeline" }));
    const alternatives = [{ type: "dns", value: "workers.internal" }] as const;
    const ofWorker = await writeCertificate(folder, "worker", await authority.issue({ name: "worker", alternatives }));
    const keys = { worker: createCallerKey(), user: createCallerKey() };
    const keyFiles = {
      worker: await replaceFile(join(folder, "worker.key.txt"), keys.worker),
      user: await replaceFile(join(folder, "user.key.txt"), keys.user),
    };
    const callers = await replaceFile(
      join(folder, "callers.yaml"),
      JSON.stringify({
        callers: [
          { name: "workers", keys: [hashCallerKey(keys.worker)], register: ["acme/*"] },
          { name: "user", keys: [hashCallerKey(keys.user)], apps: ["acme/worker"] },
        ],
      }),
    );
    const { url } = await startPipeline(t, [
      ...["--tls-cert", server.cert, "--tls-key", server.key, "--callers", callers, "--default-app", "acme/worker"],
      ...["--worker-tls-ca", ca, "--worker-tls-cert", server.cert, "--worker-tls-key", server.key],
      ...["--worker-tls-name", "workers.internal"],
    ]);
    const tls = ["--tls-cert", ofWorker.cert, "--tls-key", ofWorker.key, "--tls-client-ca", ca];
    const asWorker = ["--tls-ca", ca, "--key-file", keyFiles.worker];
    const worker = startWorker(t, url, ["--app", "acme/worker", ...tls, ...asWorker]);
    const denied = startWorker(t, url, ["--app", "other/worker", ...tls, ...asWorker]);
    await worker.waitFor(registered);
    const asUser = ["--tls-ca", ca, "--key-file", keyFiles.user];
    assert.equal((await generate(url, ...asUser)).code, 0);
    await denied.waitFor(/permission_denied: caller workers may not register this app/);
    assert.equal(registrations(denied), 0);
  });

  test("wrong settings of a registration end the start with one line", async () => {
    const cases = [
      [["worker", "--register", "pipeline:8080"], /--register must be http:\/\/ or https:\/\/ URLs without path/],
      [["worker", "--register", "http://h:8080/v1"], /--register must be http:\/\/ or https:\/\/ URLs without path/],
      [["worker", "--register", "http://user:secret@h"], /--register must be .*got "http:\/\/…@h"/],
      [["worker", "--register", "http://h:0"], /--register must be/],
      [["worker", "--register", "http://h:65536"], /--register must be/],
      [["worker", "--register", ""], /--register must be/],
      [["worker", "--app", "worker", "--register", "http://h"], /--app must be an app id of the form owner\/name/],
      [["worker", "--register-address", "10.0.0.7"], /--register-address needs --register/],
      [["worker", "--register", "http://h", "--register-address", "h:1"], /--register-address must be an IP address/],
      [
        ["worker", "--register", "http://h", "--tls-client-cert", "x"],
        /--tls-client-cert and --tls-client-key need each/,
      ],
      [["pipeline", "--register-allow", "10.0.0.0/33"], /--register-allow must be none, or ranges of IP addresses/],
      [["pipeline", "--register-allow", "none,10.0.0.0/8"], /--register-allow must be none, or ranges/],
      [["pipeline", "--worker-tls-name", "x"], /--worker-tls-name needs --worker-tls-ca/],
    ] as const;
    for (const [args, message] of cases) {
      const ended = await runInProcess(args);
      assert.match(ended.message, message);
      assert.equal(ended.code, 2, ended.message);
      assert.doesNotMatch(ended.message, /\n/);
    }
    const missing = await runInProcess(["worker", "--register", "http://h", "--key-file", join(folder, "none")]);
    assert.equal(missing.code, 1);
    assert.match(missing.message, /none cannot be read \(ENOENT\)/);
  });

  test("pipeline with --register-allow none has no registry, and the worker says so once", async (t) => {
    const { url } = await startPipeline(t, ["--register-allow", "none"]);
    const worker = startWorker(t, url);
    await worker.waitFor(/unimplemented: .*this server has no registry/);
    assert.equal(registrations(worker), 0);
  });
});
