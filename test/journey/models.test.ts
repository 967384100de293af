import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { pino } from "pino";
import { createPipelineClient } from "../../src/client/client.js";
import type { GenerationLimits } from "../../src/engine/engine.js";
import { ModelSchema, Scheduler } from "../../src/gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createCallerDirectory } from "../../src/mesh/access/caller-directory.js";
import { createCallerKey, hashCallerKey } from "../../src/mesh/access/caller-keys.js";
import { type AppEntry, createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createPipelineApp, pipelineName } from "../../src/pipeline/pipeline-app.js";
import { createFakeEngine, type FakeEngineOptions } from "../../src/testing/fake-engine.js";
import { createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { createWorkerApp, workerName } from "../../src/worker/worker-app.js";
import { steadyPort } from "../support/steady-port.js";
import { openStockTransport } from "../support/stock-transport.js";
import { testTelemetry } from "../support/telemetry.js";
import { serveWorkerOfVersion1 } from "../support/worker-of-version-1.js";

const logger = pino({ level: "silent" });
const side = { step: 32, minimum: 32, maximum: 4096, default: 256 };
const limits: GenerationLimits = {
  sizes: { width: side, height: { ...side, default: 128 }, vaeFactor: 8 },
  ownScheduler: "lcm",
  schedulers: {
    lcm: { defaultSteps: 4, maximumSteps: 50 },
    "euler-discrete": { defaultSteps: 4, maximumSteps: 1000 },
  },
  defaultGuidanceScale: 8,
  guidance: "embedded",
  maximumClipSkip: 0,
};

async function startWorker(t: TestContext, options: FakeEngineOptions & { readonly port?: number }) {
  const worker = await createWorkerApp({
    startEngine: async () => createFakeEngine(options),
    telemetry: testTelemetry(t, workerName),
    logger,
  }).serve({ port: options.port ?? 0 });
  t.after(() => worker.stop({ graceMs: 0 }));
  return worker;
}

function pipelineOf(t: TestContext, apps: Readonly<Record<string, AppEntry>>, defaultApp?: string) {
  const collector = createSpanCollector();
  const app = createPipelineApp({
    directory: createAppDirectory({ apps, ...(defaultApp !== undefined && { defaultApp }) }),
    showApps: true,
    telemetry: testTelemetry(t, pipelineName, { collector }),
    logger,
  });
  return { app, collector };
}

async function clientOf(t: TestContext, apps: Readonly<Record<string, AppEntry>>, defaultApp?: string) {
  const { app, collector } = pipelineOf(t, apps, defaultApp);
  const pipeline = await app.serve({ port: 0 });
  const { transport, close } = openStockTransport(pipeline.port);
  t.after(() => {
    close();
    return pipeline.stop({ graceMs: 0 });
  });
  return { client: createPipelineClient({ transport }), url: pipeline.url, collector };
}

const target = (port: number): AppEntry => ({ target: `127.0.0.1:${port}` });

suite("models", () => {
  test("ListModels returns each app's defaults, limits and schedulers, the default app's first, without a span", async (t) => {
    const [wide, plain] = [await startWorker(t, { model: "wide", limits }), await startWorker(t, { model: "plain" })];
    const apps = { "a/plain": target(plain.port), "b/wide": target(wide.port) };
    const { client, collector } = await clientOf(t, apps, "b/wide");

    const { models } = await client.listModels({});

    assert.deepEqual(
      models.map(({ workerApp, name }) => [workerApp, name]),
      [
        ["b/wide", "wide"],
        ["a/plain", "plain"],
      ],
    );
    assert.deepEqual(
      models[0],
      create(ModelSchema, {
        workerApp: "b/wide",
        name: "wide",
        defaults: { width: 256, height: 128, numInferenceSteps: 4, guidanceScale: 8, scheduler: Scheduler.LCM },
        minSize: 64,
        maxSize: 2048,
        sizeMultiple: 32,
        schedulers: [Scheduler.EULER_DISCRETE, Scheduler.LCM],
        maxNumInferenceSteps: 50,
        examplePrompts: ["a red heart"],
      }),
    );
    assert.deepEqual(collector.spans(), []);
  });

  test("a value at a described limit is accepted, and the next one is rejected with the same limit", async (t) => {
    const worker = await startWorker(t, { limits });
    const { client } = await clientOf(t, { "a/b": target(worker.port) }, "a/b");
    const { models } = await client.listModels({});
    const model = models[0] ?? assert.fail();
    const generate = (options: object) =>
      client.generate({ prompt: "a heart", options: { numInferenceSteps: 1, ...options } });

    const { image } = await generate({ width: model.minSize, height: model.minSize });
    assert.deepEqual([image?.width, image?.height], [model.minSize, model.minSize]);
    const range = `a multiple of ${model.sizeMultiple} from ${model.minSize} to ${model.maxSize}`;
    await assert.rejects(generate({ width: model.minSize + 8 }), {
      rawMessage: `options.width: this model takes ${range}`,
    });
    const steps = `a whole number from 1 to ${model.maxNumInferenceSteps}`;
    await assert.rejects(generate({ numInferenceSteps: model.maxNumInferenceSteps + 1 }), {
      rawMessage: `options.num_inference_steps: this model takes ${steps}`,
    });
  });

  test("an app that nobody serves, and one of an older contract, have no name", async (t) => {
    const engine = await startWorker(t, {});
    const { transport, close } = openStockTransport(engine.port);
    t.after(close);
    const old = await serveWorkerOfVersion1(t, createClient(TextToImageWorkerService, transport), () => {});
    const { client } = await clientOf(t, { "a/gone": target(await steadyPort()), "a/old": target(old.port) });

    const { models } = await client.listModels({});

    assert.deepEqual(models, [
      create(ModelSchema, { workerApp: "a/gone" }),
      create(ModelSchema, { workerApp: "a/old" }),
    ]);
  });

  test("a caller is shown only the models that it may use", async (t) => {
    const worker = await startWorker(t, {});
    const { app } = pipelineOf(t, { "a/one": target(worker.port), "a/two": target(worker.port) });
    const key = createCallerKey();
    const current = createCallerDirectory([
      { name: "shop", keys: [hashCallerKey(key)], certificates: [], mayUse: (appId) => appId === "a/two" },
    ]);
    const pipeline = await app.serve({ port: 0, callers: { current, onChange() {}, close() {} } });
    const { transport, close } = openStockTransport(pipeline.port);
    t.after(() => {
      close();
      return pipeline.stop({ graceMs: 0 });
    });
    const client = createPipelineClient({ transport });

    const { models } = await client.listModels({}, { headers: { authorization: `Bearer ${key}` } });

    assert.deepEqual(
      models.map(({ workerApp }) => workerApp),
      ["a/two"],
    );
  });

  test("a description does not count for the service time of its worker", async (t) => {
    const worker = await startWorker(t, {});
    const { client, url } = await clientOf(t, { "a/b": target(worker.port) }, "a/b");
    const statistics = async () => {
      const { apps } = JSON.parse(await (await fetch(`${url}/apps`)).text());
      const { inFlight, serviceMs } = apps[0].workers[0];
      return { inFlight, isMeasured: serviceMs !== null };
    };

    assert.equal((await client.listModels({})).models[0]?.name, "fake");
    assert.deepEqual(await statistics(), { inFlight: 0, isMeasured: false });
    await client.generate({ prompt: "a heart" });
    assert.deepEqual(await statistics(), { inFlight: 0, isMeasured: true });
  });

  test("a replica that becomes healthy with another model is described anew", async (t) => {
    const port = await steadyPort();
    const first = await startWorker(t, { model: "first", port });
    const { client } = await clientOf(t, { "a/b": target(port) }, "a/b");
    const nameNow = async () => (await client.listModels({})).models[0]?.name;
    assert.equal(await nameNow(), "first");

    await first.stop({ graceMs: 0 });
    assert.equal(await nameNow(), "first", "the last description stays");
    await startWorker(t, { model: "second", port });
    // Succeeds once the pipeline has seen the new worker.
    await client.generate({ prompt: "a heart" }, { timeoutMs: 30_000 }).catch(() => undefined);
    const deadline = AbortSignal.timeout(30_000);
    while ((await nameNow()) === "first") {
      deadline.throwIfAborted();
    }
    assert.equal(await nameNow(), "second");
  });
});
