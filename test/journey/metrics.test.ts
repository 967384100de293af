import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/testing.js";
import { createHeldEngine } from "../support/held-engine.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";

/** Whether a series is of the pipeline's own questions for a worker's model, which come at any time. */
function isDescribeModel({ attributes }: { readonly attributes: Readonly<Record<string, unknown>> }): boolean {
  return String(attributes["rpc.method"]).endsWith("/DescribeModel");
}

async function startMesh(t: TestContext, options: TestMeshOptions = {}) {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  /** Series of requests as `service name{attributes}` with their values; of a histogram, how many it has. */
  const read = async (wanted: RegExp) =>
    Object.fromEntries(
      (await mesh.metrics())
        .filter((point) => wanted.test(point.name) && !isDescribeModel(point))
        .map(({ service, name, attributes, value }) => [
          `${service === "image-pipeline" ? "pipeline" : "worker"} ${name}{${Object.values(attributes).sort().join()}}`,
          typeof value === "number" ? value : value.count,
        ]),
    );
  return { mesh, read };
}

test("generated image is measured in both services, and a third-party receiver gets the metrics", async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.stop());
  const { mesh, read } = await startMesh(t, {
    wire: "port",
    environment: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint },
  });
  await mesh.pipeline.generate({ prompt: "a red heart" });
  const infer = "throughline.v1.TextToImageWorkerService/Infer";
  const generate = "throughline.v1.ImagePipelineService/Generate";
  assert.deepEqual(await read(/^rpc\.|attempts/), {
    [`worker rpc.server.call.duration{OK,grpc,${infer}}`]: 1,
    "pipeline throughline.call.attempts{OK,local/text-to-image-worker}": 1,
    [`pipeline rpc.server.call.duration{OK,grpc,${generate}}`]: 1,
    [`pipeline rpc.client.call.duration{OK,grpc,local/text-to-image-worker,${infer}}`]: 1,
  });
  await mesh.stop();
  const received = receiver.metrics.flat();
  const numberOf = (service: string, name: string) =>
    received.find((point) => point.service === service && point.name === name && !isDescribeModel(point))?.value;
  assert.equal(numberOf("text-to-image-worker", "throughline.images"), 1);
  assert.equal(numberOf("text-to-image-worker", "throughline.diffusion.steps"), 4);
  assert.equal(numberOf("text-to-image-worker", "throughline.queue.wait.duration"), 1);
  assert.equal(numberOf("text-to-image-worker", "rpc.server.call.duration"), 1);
  assert.equal(numberOf("image-pipeline", "rpc.client.call.duration"), 1);
  const stages = received.filter(({ name }) => name === "throughline.stage.duration");
  assert.deepEqual(
    stages.map(({ attributes, value }) => [attributes["throughline.stage"], value]),
    ["text-encoding", "denoising", "vae-decode", "image-encode", "upload"].map((stage) => [stage, 1]),
  );
});

test("metric attributes contain no caller text and no trace id", async (t) => {
  const { mesh } = await startMesh(t, { wire: "port" });
  const prompt = "a very particular prompt";
  const { traceId } = await mesh.pipeline.generate({ prompt, options: { negativePrompt: "secretive words" } });
  await assert.rejects(mesh.pipeline.generate({ prompt, workerApp: "nobody/at-all" }));
  const text = JSON.stringify(await mesh.metrics());
  for (const secret of [prompt, "secretive", "nobody/at-all", traceId]) {
    assert.ok(!text.includes(secret), secret);
  }
});

test("rejected, unsampled and untraced calls are measured with their codes", async (t) => {
  for (const environment of [{ OTEL_TRACES_SAMPLER: "always_off" }, { ENABLE_TRACING: "false" }]) {
    const { mesh, read } = await startMesh(t, { environment });
    await mesh.pipeline.generate({ prompt: "a red heart" });
    await assert.rejects(mesh.pipeline.generate({ prompt: "" }));
    const seen = Object.entries(await read(/^rpc\.server/));
    assert.deepEqual(
      seen.map(([series, count]) => [series.split("{")[0], count]),
      [
        ["worker rpc.server.call.duration", 1],
        ["pipeline rpc.server.call.duration", 1],
        ["pipeline rpc.server.call.duration", 1],
      ],
    );
    assert.ok(seen.some(([series]) => series.includes("invalid_argument")));
  }
});

test("waiting requests show in the queue metrics, and a cancelled generation keeps its steps", async (t) => {
  const { engine, reached, release } = createHeldEngine(3);
  const { mesh, read } = await startMesh(t, { engine });
  const leave = new AbortController();
  const first = mesh.pipeline.generate({ prompt: "first" }, { signal: leave.signal });
  await reached;
  const second = mesh.pipeline.generateStream({ request: { prompt: "second" } });
  const events = second[Symbol.asyncIterator]();
  await events.next();
  assert.deepEqual(await read(/^throughline\.queue\.l/), {
    "worker throughline.queue.length{}": 1,
    "worker throughline.queue.limit{}": 16,
  });
  leave.abort();
  await assert.rejects(first);
  release();
  for (let event = await events.next(); event.done !== true; event = await events.next()) {
    // To its end.
  }
  assert.deepEqual(await read(/^throughline\.(?:images|diffusion|queue\.length)/), {
    "worker throughline.diffusion.steps{euler-discrete,none}": 2 + 4,
    "worker throughline.images{euler-discrete,none}": 1,
    "worker throughline.queue.length{}": 0,
  });
});

test("engine restart shows in the metrics, and a shutdown is no restart", async (t) => {
  const engine = createFakeEngine();
  const { mesh, read } = await startMesh(t, { engine });
  engine.setAvailable(false);
  assert.equal((await read(/engine\.state/))["worker throughline.engine.state{restarting}"], 1);
  engine.setAvailable(true);
  assert.deepEqual(await read(/engine/), {
    "worker throughline.engine.restarts{}": 1,
    "worker throughline.engine.state{starting}": 0,
    "worker throughline.engine.state{ready}": 1,
    "worker throughline.engine.state{restarting}": 0,
  });
  await mesh.stopWorker();
});

test("metrics add no spans to a call", async (t) => {
  const { mesh } = await startMesh(t, { wire: "port" });
  const { traceId } = await mesh.pipeline.generate({ prompt: "a red heart" });
  const spans = await mesh.waitForTrace(traceId, 6);
  assert.deepEqual(spans.map(({ name }) => name).sort(), [
    "call-inference-worker",
    "diffusion",
    "image-pipeline",
    "inference",
    "preprocess-prompt",
    "upload",
  ]);
});
