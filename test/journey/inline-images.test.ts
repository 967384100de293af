import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { createPipelineClient, createWorkerClient } from "../../src/client/client.js";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createPipelineApp, type PipelineAppOptions } from "../../src/pipeline/pipeline-app.js";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { workerOfVersion1 } from "../support/worker-of-version-1.js";

const png = Buffer.from("89504e470d0a1a0a", "hex");

async function meshOf(t: TestContext) {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  return mesh;
}

/** A pipeline in memory, over a connection of its own to its one worker app. */
async function pipelineTo(t: TestContext, connect: NonNullable<PipelineAppOptions["connect"]>) {
  const logger = pino({ level: "silent" });
  const environment = { ENABLE_TRACING: "false" };
  const telemetry = createTelemetry({ serviceName: "image-pipeline", environment, log: logger });
  const directory = createAppDirectory({ apps: { "a/b": { target: "localhost:1" } }, defaultApp: "a/b" });
  const { transport, stop } = await createPipelineApp({ directory, connect, telemetry, logger }).start();
  t.after(async () => {
    await stop();
    await telemetry.shutdown();
  });
  return createPipelineClient({ transport });
}

test("pipeline and worker return image bytes in binary and base64 in JSON", async (t) => {
  const mesh = await meshOf(t);
  const request = { prompt: "a", options: { seed: 7, delivery: Delivery.INLINE } };
  for (const { image } of [await mesh.pipeline.generate(request), await mesh.worker.infer(request)]) {
    assert.ok(image !== undefined);
    assert.deepEqual([image.url, image.contentType, image.fileSize], ["", "image/png", image.data.length]);
    assert.deepEqual(Buffer.from(image.data.subarray(0, png.length)), png);
    const response = await fetch(`${mesh.pipelineUrl}/throughline.v1.ImagePipelineService/Generate`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ prompt: "a", options: { seed: 7, delivery: "DELIVERY_INLINE" } }),
    });
    const body: unknown = await response.json();
    assert.ok(typeof body === "object" && body !== null && "image" in body);
    assert.ok(typeof body.image === "object" && body.image !== null && "data" in body.image);
    assert.equal(body.image.data, Buffer.from(image.data).toString("base64"));
  }
});

test("pipeline requests bytes from the worker and makes the data: URI itself", async (t) => {
  const mesh = await meshOf(t);
  const asked: unknown[] = [];
  const inner = mesh.worker;
  const transport = createRouterTransport(({ service }) => {
    service(TextToImageWorkerService, {
      async infer(request, { signal }) {
        const response = await inner.infer(request, { signal });
        asked.push([request.options?.delivery, response.image?.url]);
        return response;
      },
    });
  });
  const pipeline = await pipelineTo(t, () => ({ transport, close() {} }));
  const { image } = await pipeline.generate({ prompt: "a", options: { seed: 7 } });
  assert.deepEqual(asked, [[Delivery.INLINE, ""]]);
  const direct = await createWorkerClient({ transport }).infer({
    prompt: "a",
    options: { seed: 7, delivery: Delivery.DATA_URI },
  });
  assert.equal(image?.url, direct.image?.url);
});

test("worker of contract version 1 gets DATA_URI within the first call and directly in later ones", async (t) => {
  const mesh = await meshOf(t);
  const asked: unknown[] = [];
  const pipeline = await pipelineTo(t, (_entry, interceptors) => ({
    transport: workerOfVersion1(mesh.worker, (delivery) => asked.push(delivery), interceptors),
    close() {},
  }));
  const options = { seed: 7 };
  const { image } = await pipeline.generate({ prompt: "a", options });
  assert.match(image?.url ?? "", /^data:image\/png;base64,iVBORw0KGgo/);
  assert.deepEqual(asked, [Delivery.INLINE, Delivery.DATA_URI]);
  const inline = await pipeline.generate({ prompt: "a", options: { ...options, delivery: Delivery.INLINE } });
  assert.deepEqual(Buffer.from(inline.image?.data.subarray(0, png.length) ?? []), png);
  assert.deepEqual(asked.slice(2), [Delivery.DATA_URI]);
});

test("stream falls back to a data: URI for a worker of contract version 1", async (t) => {
  const mesh = await meshOf(t);
  const asked: unknown[] = [];
  const pipeline = await pipelineTo(t, (_entry, interceptors) => ({
    transport: workerOfVersion1(mesh.worker, (delivery) => asked.push(delivery), interceptors),
    close() {},
  }));
  const kinds: unknown[] = [];
  for await (const { event } of pipeline.generateStream({ request: { prompt: "a" } })) {
    kinds.push(event.case);
  }
  assert.equal(kinds.at(-1), "result");
  assert.deepEqual(asked, [Delivery.INLINE, Delivery.DATA_URI]);
});
