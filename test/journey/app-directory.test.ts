import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, type TestContext, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { pino } from "pino";
import type { ServeOptions } from "../../src/app/create-app.js";
import { createPipelineClient } from "../../src/client/client.js";
import { reloadAppsFile } from "../../src/mesh/directory/apps-file.js";
import { reloadTlsMaterial } from "../../src/mesh/tls/tls-material.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../src/worker/worker-app.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { failure } from "../mesh/support/grpc-client.js";
import { createAuthority, replaceFile, writeCertificate } from "../support/certificates.js";
import { createHeldEngine } from "../support/held-engine.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testTelemetry } from "../support/telemetry.js";

const logger = pino({ level: "silent" });

async function startWorker(t: TestContext, engine: ManagedEngine, options: Partial<ServeOptions> = {}) {
  const worker = await createWorkerApp({
    startEngine: async () => engine,
    telemetry: testTelemetry(t, workerName),
    logger,
  }).serve({ port: 0, ...options });
  t.after(() => worker.stop({ graceMs: 0 }));
  return worker;
}

/** A pipeline with a file of apps; `write` resolves when the pipeline has read it. */
async function startPipeline(t: TestContext, path: string, apps: object) {
  await replaceFile(path, JSON.stringify(apps));
  const directory = reloadAppsFile(path, { onRejected: (error) => t.diagnostic(String(error)), intervalMs: 10 });
  let changed = () => {};
  directory.onChange(() => changed());
  const pipeline = await createPipelineApp({ directory, telemetry: testTelemetry(t, pipelineName), logger }).serve({
    port: 0,
  });
  const { transport, close } = openStockTransport(pipeline.port);
  t.after(async () => {
    close();
    await pipeline.stop({ graceMs: 0 });
    directory.close();
  });
  return {
    client: createPipelineClient({ transport }),
    write: (next: object) =>
      new Promise<void>((resolve, reject) => {
        changed = resolve;
        replaceFile(path, JSON.stringify(next)).catch(reject);
      }),
  };
}

suite("pipeline with an apps file that changes", async () => {
  const folder = await temporaryFolder();

  test("pipeline calls the new target, keeps a running call on the old one, and returns NOT_FOUND for a removed app", async (t) => {
    const held = createHeldEngine();
    const engine = createFakeEngine();
    const [old, other] = [await startWorker(t, held.engine), await startWorker(t, engine)];
    const target = (port: number) => ({ target: `127.0.0.1:${port}` });
    const { client, write } = await startPipeline(t, join(folder, "change.json"), {
      default: "a/first",
      apps: { "a/first": target(old.port), "a/second": target(other.port) },
    });
    const running = client.generate({ prompt: "a heart" });
    await held.reached;

    await write({ default: "a/first", apps: { "a/first": target(other.port) } });
    await client.generate({ prompt: "a heart" });
    assert.deepEqual([held.engine.generations, engine.generations], [1, 1]);
    const gone = await failure(client.generate({ prompt: "a heart", workerApp: "a/second" }));
    assert.equal(gone.code, Code.NotFound);
    assert.equal(gone.rawMessage, "no such app; the apps are a/first");

    await write({ default: "a/third", apps: { "a/third": target(other.port) } });
    held.release();
    assert.equal((await running).image?.contentType, "image/png");
    await client.generate({ prompt: "a heart" });
    assert.deepEqual([held.engine.generations, engine.generations], [1, 2]);
  });

  test("pipeline presents each app its current client certificate and checks the server's name", async (t) => {
    const authority = await createAuthority();
    const ca = await replaceFile(join(folder, "ca.crt"), authority.cert);
    const alternatives = [{ type: "dns", value: "worker.internal" }] as const;
    const server = await writeCertificate(folder, "server", await authority.issue({ name: "worker", alternatives }));
    await writeCertificate(folder, "pipeline", await authority.issue({ name: "pipeline" }));
    const material = reloadTlsMaterial({ ...server, ca }, { onRejected() {} });
    t.after(material.close);
    const worker = await startWorker(t, createFakeEngine(), { tls: { material, clientCertificate: "required" } });
    const plain = await startWorker(t, createFakeEngine());
    const tls = { ca: "ca.crt", cert: "pipeline.crt", key: "pipeline.key" };
    const target = `127.0.0.1:${worker.port}`;
    const { client } = await startPipeline(t, join(folder, "tls.json"), {
      apps: {
        "a/right": { target, tls: { ...tls, serverName: "worker.internal" } },
        "a/elsewhere": { target, tls: { ...tls, serverName: "other.internal" } },
        "a/untrusted": { target, tls: { ca: "ca.crt", serverName: "worker.internal" } },
        "a/plain": { target: `127.0.0.1:${plain.port}` },
      },
    });
    for (const workerApp of ["a/right", "a/plain"]) {
      assert.equal((await client.generate({ prompt: "a heart", workerApp })).image?.contentType, "image/png");
    }
    for (const workerApp of ["a/elsewhere", "a/untrusted"]) {
      const error = await failure(client.generate({ prompt: "a heart", workerApp }));
      assert.equal(error.code, Code.Unavailable, workerApp);
    }
  });
});
