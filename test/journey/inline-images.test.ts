import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { createRouterTransport } from "@connectrpc/connect";
import { pino } from "pino";
import { createPipelineClient, createWorkerClient } from "../../src/client/client.js";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { createAppDirectory } from "../../src/mesh/directory/app-directory.js";
import { createPipelineApp, type PipelineAppOptions } from "../../src/pipeline/pipeline-app.js";
import { createTestMesh, type TestMesh } from "../../src/testing/create-test-mesh.js";
import { createSpanCollector } from "../../src/trace/telemetry/collectors.js";
import { serveEcho } from "../mesh/support/serve-echo.js";
import { testTelemetry } from "../support/telemetry.js";
import { serveWorkerOfVersion1 } from "../support/worker-of-version-1.js";

const png = Buffer.from("89504e470d0a1a0a", "hex");

async function meshOf(t: TestContext) {
  const mesh = await createTestMesh({ wire: "port" });
  t.after(() => mesh.stop());
  return mesh;
}

/** A pipeline in memory of one worker app, and its spans. Without `connect`, it calls `target` by gRPC. */
async function pipelineTo(t: TestContext, options: Pick<PipelineAppOptions, "connect"> & { readonly target?: string }) {
  const collector = createSpanCollector();
  const entry = { target: options.target ?? "localhost:1", policies: { loadBalancing: "round_robin" } } as const;
  const { transport, stop } = await createPipelineApp({
    directory: createAppDirectory({ apps: { "a/b": entry }, defaultApp: "a/b" }),
    connect: options.connect,
    telemetry: testTelemetry(t, "image-pipeline", { collector }),
    logger: pino({ level: "silent" }),
  }).start();
  t.after(stop);
  return { pipeline: createPipelineClient({ transport }), collector };
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
  const requestedDeliveries: unknown[] = [];
  const inner = mesh.worker;
  const transport = createRouterTransport(({ service }) => {
    service(TextToImageWorkerService, {
      async infer(request, { signal }) {
        const response = await inner.infer(request, { signal });
        requestedDeliveries.push([request.options?.delivery, response.image?.url]);
        return response;
      },
    });
  });
  const { pipeline } = await pipelineTo(t, { connect: () => ({ transport, close() {} }) });
  const { image } = await pipeline.generate({ prompt: "a", options: { seed: 7 } });
  assert.deepEqual(requestedDeliveries, [[Delivery.INLINE, ""]]);
  const direct = await createWorkerClient({ transport }).infer({
    prompt: "a",
    options: { seed: 7, delivery: Delivery.DATA_URI },
  });
  assert.equal(image?.url, direct.image?.url);
});

/** A worker of version 1, and which deliveries it was asked for. */
async function oldWorker(t: TestContext, mesh: TestMesh) {
  const requestedDeliveries: (Delivery | undefined)[] = [];
  const { port } = await serveWorkerOfVersion1(t, mesh.worker, (delivery) => requestedDeliveries.push(delivery));
  return { port, requestedDeliveries };
}

const { INLINE, DATA_URI } = Delivery;

test("worker of contract version 1 gets DATA_URI within the first call and directly in later ones", async (t) => {
  const { port, requestedDeliveries } = await oldWorker(t, await meshOf(t));
  const { pipeline } = await pipelineTo(t, { target: `127.0.0.1:${port}` });
  const options = { seed: 7 };
  const { image } = await pipeline.generate({ prompt: "a", options });
  assert.match(image?.url ?? "", /^data:image\/png;base64,iVBORw0KGgo/);
  assert.deepEqual(requestedDeliveries, [INLINE, DATA_URI]);
  const inline = await pipeline.generate({ prompt: "a", options: { ...options, delivery: INLINE } });
  assert.deepEqual(Buffer.from(inline.image?.data.subarray(0, png.length) ?? []), png);
  assert.deepEqual(requestedDeliveries.slice(2), [DATA_URI]);
});

test("stream falls back to a data: URI for a worker of contract version 1", async (t) => {
  const { port, requestedDeliveries } = await oldWorker(t, await meshOf(t));
  const { pipeline } = await pipelineTo(t, { target: `127.0.0.1:${port}` });
  const kinds: unknown[] = [];
  for await (const { event } of pipeline.generateStream({ request: { prompt: "a" } })) {
    kinds.push(event.case);
  }
  assert.equal(kinds.at(-1), "result");
  assert.deepEqual(requestedDeliveries, [INLINE, DATA_URI]);
});

test("old and new replicas of one app: the new one keeps INLINE, and each call has one CLIENT span", async (t) => {
  const mesh = await meshOf(t);
  const old = await oldWorker(t, mesh);
  const current: (Delivery | undefined)[] = [];
  const upgraded = await serveEcho(t, {
    routes: ({ service }) =>
      service(TextToImageWorkerService, {
        infer(request, { signal }) {
          current.push(request.options?.delivery);
          return mesh.worker.infer(request, { signal });
        },
      }),
  });
  const { pipeline, collector } = await pipelineTo(t, {
    target: `ipv4:127.0.0.1:${old.port},127.0.0.1:${upgraded.port}`,
  });
  const calls = 12;
  for (let call = 0; call < calls; call++) {
    const { image } = await pipeline.generate({ prompt: "a", options: { seed: 7 } });
    assert.match(image?.url ?? "", /^data:image\/png;base64,iVBORw0KGgo/);
  }
  const [first, ...later] = old.requestedDeliveries;
  assert.equal(first, INLINE);
  assert.ok(later.length >= 3 && current.length >= 3, "both replicas got calls");
  assert.deepEqual([new Set(later), new Set(current)], [new Set([DATA_URI]), new Set([INLINE])]);
  assert.equal(later.length + current.length, calls);

  const clientSpans = collector.spans().filter(({ name }) => name === "call-inference-worker");
  assert.equal(clientSpans.length, calls);
  assert.deepEqual(
    clientSpans
      .flatMap(({ events }) => events.map(({ attributes }) => attributes["attempt.retry_reason"] ?? ""))
      .sort(),
    [...Array.from({ length: calls }, () => ""), "the worker needs an older form of the request"],
  );
});
