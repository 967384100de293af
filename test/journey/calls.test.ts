import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test, { type TestContext } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import sharp from "sharp";
import { GenerationError } from "../../src/engine/engine.js";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { Delivery, ImageFormat, Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { createDirectoryStore } from "../../src/image/directory-store.js";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { createTestMesh, type TestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createHeldEngine } from "../support/held-engine.js";

const wires = ["memory", "port"] as const;

async function meshFor(t: TestContext, options: TestMeshOptions = {}): Promise<TestMesh> {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  return mesh;
}

const codeOf = (promise: Promise<unknown>) =>
  promise.then(
    () => "OK",
    (error: unknown) => Code[ConnectError.from(error).code],
  );

for (const wire of wires) {
  test(`same seed gives the same image, another seed another one, and a missing seed is random (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const generate = (seed?: number) =>
      mesh.pipeline.generate({ prompt: "a red heart", options: seed === undefined ? {} : { seed } });
    const [first, second, other, drawn] = [await generate(7), await generate(7), await generate(8), await generate()];
    assert.equal(first.image?.url, second.image?.url);
    assert.notEqual(first.image?.url, other.image?.url);
    assert.equal(first.seed, 7);
    const again = await generate(drawn.seed);
    assert.equal(again.image?.url, drawn.image?.url);
  });

  test(`stream emits stages and steps in order, with previews when requested (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const events: string[] = [];
    const stream = mesh.pipeline.generateStream({
      request: { prompt: "a", options: { numInferenceSteps: 3, previewInterval: 2, seed: 1 } },
    });
    for await (const { event } of stream) {
      if (event.case === "progress") {
        const { stage, step, totalSteps, preview, previewContentType } = event.value;
        const shown = preview.length > 0 ? ` ${(await sharp(preview).metadata()).format} ${previewContentType}` : "";
        events.push(`${Stage[stage]} ${step}/${totalSteps}${shown}`);
      } else {
        events.push(event.case ?? "");
      }
    }
    assert.deepEqual(events, [
      "TEXT_ENCODING 0/0",
      "DENOISING 0/3",
      "DENOISING 1/3",
      "DENOISING 2/3 jpeg image/jpeg",
      "DENOISING 3/3",
      "VAE_DECODE 0/0",
      "UPLOAD 0/0",
      "result",
    ]);
  });

  test(`cancelled call stops the engine before its next step and releases the slot (${wire})`, async (t) => {
    const held = createHeldEngine();
    const mesh = await meshFor(t, { wire, engine: held.engine, maxWaiting: 0 });
    const controller = new AbortController();
    const call = codeOf(mesh.pipeline.generate({ prompt: "a" }, { signal: controller.signal }));
    await held.reached;
    assert.equal(await codeOf(mesh.worker.infer({ prompt: "b" })), "ResourceExhausted");
    controller.abort();
    assert.equal(await call, "Canceled");
    const trace = await mesh.waitForTrace(mesh.spans()[0]?.traceId ?? "", 5);
    assert.equal(held.engine.stepsRun, 1);
    assert.deepEqual(
      trace
        .map(({ name, status, attributes }) => `${name} ${status.code} ${attributes["rpc.response.status_code"] ?? ""}`)
        .sort(),
      [
        "call-inference-worker UNSET CANCELLED",
        "diffusion UNSET ",
        "image-pipeline UNSET CANCELLED",
        "inference UNSET CANCELLED",
        "preprocess-prompt UNSET ",
      ],
    );
    held.release();
    assert.equal(await codeOf(mesh.pipeline.generate({ prompt: "a" })), "OK");
  });

  test(`deadline stops the engine and its error says where the time was spent (${wire})`, async (t) => {
    const held = createHeldEngine(3);
    const mesh = await meshFor(t, { wire, engine: held.engine });
    // Connections and validators are made with the first call; a short deadline would go into that.
    await mesh.pipeline.generate({ prompt: "a", options: { numInferenceSteps: 1 } });
    const before = held.engine.stepsRun;
    await assert.rejects(
      mesh.pipeline.generate({ prompt: "a", options: { numInferenceSteps: 9 } }, { timeoutMs: 5_000 }),
      (error) => {
        assert.ok(error instanceof ConnectError);
        assert.equal(error.code, Code.DeadlineExceeded);
        assert.match(error.rawMessage, /denoising, step 2 of 9/);
        return true;
      },
    );
    assert.equal(held.engine.stepsRun - before, 2);
  });

  test(`full worker rejects with RetryInfo and makes no inference span (${wire})`, async (t) => {
    const held = createHeldEngine();
    const mesh = await meshFor(t, { wire, engine: held.engine, maxWaiting: 0 });
    const first = mesh.pipeline.generate({ prompt: "a" });
    await held.reached;
    await assert.rejects(mesh.pipeline.generate({ prompt: "b" }), (error) => {
      assert.ok(error instanceof ConnectError);
      assert.equal(error.code, Code.ResourceExhausted);
      assert.equal(error.findDetails(RetryInfoSchema).length, 1);
      return true;
    });
    assert.ok(!mesh.spans().some(({ name }) => name === "inference"));
    held.release();
    await first;
  });

  test(`waiting call receives its position and then generates (${wire})`, async (t) => {
    const held = createHeldEngine();
    const mesh = await meshFor(t, { wire, engine: held.engine });
    const first = mesh.pipeline.generate({ prompt: "a" });
    await held.reached;
    const cases: string[] = [];
    for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "b" } })) {
      if (event.case === "queued") {
        assert.equal(event.value.position, 0);
        held.release();
      }
      cases.push(event.case ?? "");
    }
    assert.equal(cases[0], "queued");
    assert.equal(cases.at(-1), "result");
    await first;
  });

  test(`calls are UNAVAILABLE while the engine is down and succeed when it is back (${wire})`, async (t) => {
    const engine = createFakeEngine();
    const mesh = await meshFor(t, { wire, engine });
    engine.setAvailable(false);
    assert.equal(await codeOf(mesh.pipeline.generate({ prompt: "a" })), "Unavailable");
    engine.setAvailable(true);
    // Over a port the pipeline learns of it from the worker's health, a moment later.
    while ((await codeOf(mesh.pipeline.generate({ prompt: "a" }))) !== "OK") {}
  });
}

test("client that stops reading blocks no other call", async (t) => {
  const mesh = await meshFor(t, { wire: "port", maxWaiting: 1 });
  const options = { numInferenceSteps: 150, previewInterval: 1, width: 2048, height: 2048 };
  const stalled = mesh.pipeline.generateStream({ request: { prompt: "a", options } })[Symbol.asyncIterator]();
  await stalled.next();
  // 150 previews of 256×256 pixels exceed the socket buffers, and the client does not read.
  assert.ok((await mesh.pipeline.generate({ prompt: "b" })).image);
  let last = "";
  for (let next = await stalled.next(); next.done !== true; next = await stalled.next()) {
    last = next.value.event.case ?? "";
  }
  assert.equal(last, "result");
});

test("requests that wait when the engine dies are generated when it is back", async (t) => {
  const lost = createHeldEngine();
  const mesh = await meshFor(t, { wire: "port", engine: lost.engine });
  const first = codeOf(mesh.pipeline.generate({ prompt: "a" }));
  await lost.reached;
  const waiting: string[] = [];
  const second = (async () => {
    for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "b" } })) {
      waiting.push(event.case ?? "");
      if (event.case === "queued") {
        lost.engine.setAvailable(false);
        lost.fail(new GenerationError("lost", "the engine's process died"));
      }
    }
  })();
  assert.equal(await first, "Unavailable");
  assert.deepEqual(waiting, ["queued"]);
  lost.engine.setAvailable(true);
  await second;
  assert.equal(waiting.at(-1), "result");
});

test("model-specific limit is returned with the contract's field name", async (t) => {
  const engine = createFakeEngine({
    beforeStep() {
      const message = "this model takes a multiple of 32 from 32 to 256";
      throw new GenerationError("unsupported", message, { violations: [{ field: "guidanceScale", message }] });
    },
  });
  const mesh = await meshFor(t, { engine });
  await assert.rejects(mesh.pipeline.generate({ prompt: "a" }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.rawMessage, /^options\.guidance_scale: this model takes a multiple of 32/);
    return true;
  });
});

test("image in a store can be fetched from the pipeline by its caller", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "throughline-calls-"));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const mesh = await meshFor(t, { wire: "port", store: await createDirectoryStore({ directory }) });
  for (const [format, type] of [
    [ImageFormat.UNSPECIFIED, "image/png"],
    [ImageFormat.JPEG, "image/jpeg"],
    [ImageFormat.WEBP, "image/webp"],
  ] as const) {
    const { image } = await mesh.pipeline.generate({
      prompt: "a",
      options: { format, seed: 1, width: 128, height: 96 },
    });
    assert.ok(image);
    assert.ok(image.url.startsWith(`${mesh.pipelineUrl}/images/`), image.url);
    assert.ok(image.url.endsWith(image.fileName));
    const response = await fetch(image.url);
    assert.equal(response.headers.get("content-type"), type);
    const bytes = new Uint8Array(await response.arrayBuffer());
    const { width, height } = await sharp(bytes).metadata();
    assert.deepEqual(
      [bytes.length, image.contentType, width, height, image.width, image.height],
      [image.fileSize, type, 128, 96, 128, 96],
    );
  }
  const inline = await mesh.pipeline.generate({ prompt: "a", options: { delivery: Delivery.DATA_URI } });
  assert.match(inline.image?.url ?? "", /^data:image\/png;base64,/);
});

test("image that cannot be stored is INTERNAL, and the log has the reason and the trace id", async (t) => {
  const store = { put: () => Promise.reject(new Error("no space left on the device")), get: async () => undefined };
  const log: string[] = [];
  const mesh = await meshFor(t, { wire: "port", store, onLog: (line) => log.push(line) });
  await assert.rejects(mesh.pipeline.generate({ prompt: "a" }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([error.code, error.rawMessage], [Code.Internal, "internal error"]);
    return true;
  });
  const line = log.find((entry) => entry.includes("no space left")) ?? "";
  assert.equal(JSON.parse(line).trace_id, mesh.spans().at(-1)?.traceId);
});

for (const wire of wires) {
  test(`full image disk is UNAVAILABLE with a readable message, and only the log names the folder (${wire})`, async (t) => {
    const full = new ImageStoreError("full", "no space is left in /srv/images");
    const store = { put: () => Promise.reject(full), get: async () => undefined };
    const log: string[] = [];
    const engine = createFakeEngine();
    const mesh = await meshFor(t, { wire, engine, store, onLog: (line) => log.push(line) });
    await assert.rejects(mesh.pipeline.generate({ prompt: "a" }), (error) => {
      assert.ok(error instanceof ConnectError);
      const words = "the image cannot be stored: the image store is full";
      assert.deepEqual([error.code, error.rawMessage], [Code.Unavailable, words]);
      return true;
    });
    assert.equal(engine.generations, 1);
    assert.equal(log.filter((line) => line.includes("/srv/images")).length, 1);
  });
}

test("lost worker is UNAVAILABLE, and the pipeline keeps serving", async (t) => {
  const mesh = await meshFor(t, { wire: "port" });
  await mesh.stopWorker();
  for (let i = 0; i < 3; i++) {
    assert.equal(await codeOf(mesh.pipeline.generate({ prompt: "a" })), "Unavailable");
  }
});
