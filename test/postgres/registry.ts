import assert from "node:assert/strict";
import { join } from "node:path";
import { suite, test } from "node:test";
import { createPipelineClient } from "../../src/client/client.js";
import { openJobDatabase } from "../../src/jobs/job-database.js";
import { startCommand } from "../cli/support/run-command.js";
import { runInProcess } from "../cli/support/run-in-process.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { openRegister, startRegistry, startWorker } from "../registry/support.js";
import type { Postgres } from "../support/postgres.js";

const appId = "acme/worker";

/** @param server the running server, once the tests have begun. */
export function describeRegistry(server: () => Postgres): void {
  suite("workers that register at one of several pipelines", () => {
    test("worker that registers at one pipeline is called through the other, also after a crash of the database", async (t) => {
      const postgres = server();
      const source = await postgres.createDatabase();
      const open = () => openJobDatabase({ source, onError: () => {} });
      const [one, other] = await Promise.all(
        [1, 2].map(async () => {
          const database = await open();
          const pipeline = await startRegistry(t, { database, leaseMs: 3_000 });
          return { ...pipeline, database };
        }),
      );
      assert.ok(one && other);
      const replicas = other.leases.replicasOf(appId);
      const changed = () =>
        new Promise<void>((resolve) => {
          const forget = replicas.onChange(() => {
            forget();
            resolve();
          });
        });
      try {
        const worker = await startWorker(t);
        const joined = changed();
        const first = openRegister(t, `127.0.0.1:${one.port}`);
        await first.send({ appId, port: worker.port, version: "3" });
        await joined;
        assert.deepEqual(
          replicas.current.map(({ version }) => version),
          ["3"],
        );
        assert.equal((await other.client.generate({ prompt: "a heart" })).image?.contentType, "image/png");

        const renewal = setInterval(() => first.stream.write({ appId, port: worker.port, version: "3" }), 200);
        t.after(() => clearInterval(renewal));
        await postgres.end("SIGKILL");
        // A worker that comes meanwhile is known here, and there as soon as the database is back.
        const second = openRegister(t, `127.0.0.1:${one.port}`);
        await second.send({ appId, port: 7 });
        while (!other.lines.some((line) => line.includes("the registry's database does not answer"))) {
          await new Promise(setImmediate);
        }
        assert.equal((await other.client.generate({ prompt: "a heart" })).image?.contentType, "image/png");
        const returned = changed();
        await postgres.start();
        await returned;
        assert.deepEqual(replicas.current.map(({ port }) => port).sort(), [worker.port, 7].sort());

        const left = changed();
        second.stream.end();
        await left;
        assert.deepEqual(
          replicas.current.map(({ port }) => port),
          [worker.port],
        );
      } finally {
        await Promise.all([one.stop(), other.stop()]);
        await Promise.all([one.database.close(), other.database.close()]);
      }
    });

    test("pipelines with --jobs postgres:// share the workers that register at one of them", async (t) => {
      const folder = await temporaryFolder();
      const model = join(folder, "model");
      await makeSdxlFolder(model);
      const jobs = await server().createDatabase();
      const migrated = await runInProcess(["jobs", "migrate", "--jobs", jobs]);
      assert.equal(migrated.code, 0, migrated.message);
      const flags = ["pipeline", "--port", "0", "--images", folder, "--jobs-plaintext", "--default-app", appId];
      const readyAt = /^\S+ is ready at (http:\S+)$/m;
      const pipelines = [1, 2].map(() => startCommand(t, flags, { THROUGHLINE_JOBS: jobs }));
      const urls = await Promise.all(pipelines.map(async (pipeline) => (await pipeline.waitFor(readyAt))[1] ?? ""));
      const [one = "", other = ""] = urls;
      const worker = startCommand(t, [
        ...["worker", "--app", appId, "--model", model, "--device", "cpu", "--port", "0", "--register", one],
      ]);
      await worker.waitFor(/"msg":"registered at a pipeline"/);
      const client = createPipelineClient({ baseUrl: other });
      // The notification is on its way to the other pipeline.
      while ((await client.listModels({})).models[0]?.name === "") {
        await new Promise(setImmediate);
      }
      const answer = await client.generate({ prompt: "a heart", options: { numInferenceSteps: 1 } });
      assert.equal(answer.image?.contentType, "image/png");

      // The pipeline at which it is registered is killed: the other keeps the worker.
      pipelines[0]?.kill("SIGKILL");
      await pipelines[0]?.ended;
      await worker.waitFor(/the registration at a pipeline is lost/);
      await client.generate({ prompt: "a heart", options: { numInferenceSteps: 1 } });
      worker.kill("SIGTERM");
      assert.deepEqual(await worker.ended, { code: 0, signal: null });
    });
  });
}
