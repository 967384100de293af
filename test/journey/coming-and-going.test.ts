import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { setTimeout as work } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { pino } from "pino";
import { createPipelineClient } from "../../src/client/client.js";
import { connectApp } from "../../src/mesh/balance/connect-app.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { readPolicies } from "../../src/mesh/grpc/policies.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, workerName } from "../../src/worker/worker-app.js";
import { startFleet } from "../support/fleet.js";
import { createHeldEngine } from "../support/held-engine.js";
import { steadyPort } from "../support/steady-port.js";
import { testTelemetry } from "../support/telemetry.js";

/** An engine whose steps take a moment each. */
const busyEngine = () => createFakeEngine({ beforeStep: () => work(15) });

/** A worker in the place of one that has ended. */
async function restartWorker(t: TestContext, port: number) {
  const engine = busyEngine();
  const app = createWorkerApp({
    startEngine: async () => engine,
    telemetry: testTelemetry(t, workerName),
    logger: pino({ level: "silent" }),
  });
  const running = await app.serve({ port });
  t.after(() => running.stop({ graceMs: 0 }));
  return engine;
}

/** A pipeline in front of one worker, and a client of its own. */
async function startPipeline(t: TestContext, workerPort: number) {
  const appId = "local/text-to-image-worker";
  const pipeline = await createPipelineApp({
    directory: createAppDirectory({ apps: { [appId]: { target: `127.0.0.1:${workerPort}` } }, defaultApp: appId }),
    telemetry: testTelemetry(t, pipelineName),
    logger: pino({ level: "silent" }),
  }).serve({ port: 0 });
  const { transport, close } = connectApp({
    appId: "local/image-pipeline",
    target: `127.0.0.1:${pipeline.port}`,
    policies: readPolicies({ retry: { maxAttempts: 1 } }),
  });
  t.after(() => {
    close();
    return pipeline.stop({ graceMs: 0 });
  });
  return { pipeline, client: createPipelineClient({ transport }) };
}

test("rolling restart of all workers under load fails no request", async (t) => {
  const { client, workers } = await startFleet(t, {
    engines: [busyEngine(), busyEngine(), busyEngine()],
    ports: [await steadyPort(), await steadyPort(), await steadyPort()],
  });
  let generated = 0;
  let over = false;
  const failures: string[] = [];
  const generateUnary = async () => assert.ok((await client.generate({ prompt: "a" })).image);
  const generateStreaming = async () => {
    let last = "";
    for await (const { event } of client.generateStream({ request: { prompt: "a" } })) {
      last = event.case ?? "";
    }
    assert.equal(last, "result");
  };
  const load = Array.from({ length: 8 }, async (_, index) => {
    while (!over) {
      try {
        await (index % 2 === 0 ? generateUnary() : generateStreaming());
        generated++;
      } catch (error) {
        failures.push(String(error));
      }
    }
  });
  const until = async (isSo: () => boolean) => {
    while (!isSo() && failures.length === 0) {
      await work(10);
    }
  };
  const more = (count: number) => {
    const enough = generated + count;
    return until(() => generated >= enough);
  };
  await more(16);
  for (const worker of workers) {
    await worker.stop();
    await more(8);
    const engine = await restartWorker(t, worker.port);
    // The next one is not stopped before this one is known to be back.
    await until(() => engine.generations > 0);
    await more(16);
  }
  over = true;
  await Promise.all(load);
  assert.deepEqual(failures, []);
});

test("pipeline that shuts down during a stream finishes it and rejects new calls with UNAVAILABLE", async (t) => {
  const held = createHeldEngine();
  const { workers } = await startFleet(t, { engines: [held.engine] });
  const { pipeline, client } = await startPipeline(t, workers[0]?.port ?? 0);
  const events: string[] = [];
  const stream = (async () => {
    for await (const { event } of client.generateStream({ request: { prompt: "a" } })) {
      events.push(event.case ?? "");
    }
  })();
  await held.reached;
  const stopped = pipeline.stop();
  for (let i = 0; i < 3; i++) {
    await assert.rejects(client.generate({ prompt: "b" }), (error) => {
      assert.equal(ConnectError.from(error).code, Code.Unavailable);
      return true;
    });
  }
  held.release();
  await stream;
  assert.equal(events.at(-1), "result");
  await stopped;
});
