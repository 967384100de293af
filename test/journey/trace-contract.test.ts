import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { createTestMesh, type TestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { dumpSpans, text } from "../support/dump-spans.js";
import { dumpGenerated, generated } from "../support/generated-trace.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";

const wires = ["memory", "port"] as const;

async function meshFor(t: TestContext, options: TestMeshOptions = {}): Promise<TestMesh> {
  const mesh = await createTestMesh(options);
  t.after(() => mesh.stop());
  return mesh;
}

const dump = (mesh: TestMesh) => dumpGenerated(mesh.spans());

for (const wire of wires) {
  test(`unary request makes exactly the six spans (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const response = await mesh.pipeline.generate({ prompt: "  a red\theart ", options: { seed: 7 } });
    await mesh.waitForTrace(response.traceId, 6);
    assert.equal(dump(mesh), generated(14, 11, "Infer", wire));
    assert.match(response.traceId, /^[0-9a-f]{32}$/);
    assert.deepEqual(new Set(mesh.spans().map((span) => span.traceId)), new Set([response.traceId]));
  });

  test(`streaming request makes exactly the six spans (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    let traceId = "";
    for await (const { event } of mesh.pipeline.generateStream({ request: { prompt: "❤️🚀", options: { seed: 7 } } })) {
      if (event.case === "result") {
        traceId = event.value.traceId;
      }
    }
    await mesh.waitForTrace(traceId, 6);
    assert.equal(dump(mesh), generated(3, 3, "InferStream", wire));
  });

  test(`clip_skip and guidance_rescale are in the settings and on the diffusion span if they are not 0 (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    const generate = async (options: { readonly clipSkip?: number; readonly guidanceRescale?: number }) => {
      const { traceId, settings } = await mesh.pipeline.generate({ prompt: "a", options });
      const spans = await mesh.waitForTrace(traceId, 6);
      const diffusion = spans.find(({ name }) => name === "diffusion");
      return [
        settings?.clipSkip,
        settings?.guidanceRescale,
        diffusion?.attributes["diffusion.clip_skip"],
        diffusion?.attributes["diffusion.guidance_rescale"],
      ];
    };
    assert.deepEqual(await generate({ clipSkip: 2, guidanceRescale: 0.5 }), [2, 0.5, 2, 0.5]);
    const none = [undefined, undefined, undefined, undefined];
    assert.deepEqual(await generate({}), none);
    assert.deepEqual(await generate({ clipSkip: 0, guidanceRescale: 0 }), none);
  });

  test(`rejected request makes only an image-pipeline span with its code (${wire})`, async (t) => {
    const mesh = await meshFor(t, { wire });
    await assert.rejects(mesh.pipeline.generate({ prompt: "" }), { code: Code.InvalidArgument });
    await mesh.waitForTrace(mesh.spans()[0]?.traceId ?? "", 1);
    assert.equal(
      mesh
        .spans()
        .map(({ name, status, attributes }) => [name, status.code, attributes["rpc.response.status_code"]].join(" "))
        .join("\n"),
      "image-pipeline UNSET INVALID_ARGUMENT",
    );
  });
}

test("prompt that is empty after cleaning is rejected by the pipeline", async (t) => {
  const mesh = await meshFor(t);
  await assert.rejects(mesh.pipeline.generate({ prompt: " \t\n\u0000 " }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.rawMessage, /^prompt: a cleaned prompt has 1 to 2000 code points, this one has 0$/);
    return true;
  });
  assert.deepEqual(
    mesh.spans().map(({ name }) => name),
    ["preprocess-prompt", "image-pipeline"],
  );
});

test("clip_skip beyond the model's layers is INVALID_ARGUMENT with the field and the maximum", async (t) => {
  const { limits } = createFakeEngine().info;
  const mesh = await meshFor(t, { engine: createFakeEngine({ limits: { ...limits, maximumClipSkip: 2 } }) });
  await assert.rejects(mesh.pipeline.generate({ prompt: "a", options: { clipSkip: 3 } }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.InvalidArgument);
    assert.match(error.rawMessage, /^options\.clip_skip: this model takes a whole number from 0 to 2/);
    return true;
  });
});

test("unknown app is NOT_FOUND with the known ids, and an address is INVALID_ARGUMENT", async (t) => {
  const mesh = await meshFor(t);
  await assert.rejects(mesh.pipeline.generate({ prompt: "a", workerApp: "nobody/nothing" }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.equal(error.code, Code.NotFound);
    assert.match(error.rawMessage, /local\/text-to-image-worker/);
    assert.doesNotMatch(error.rawMessage, /nobody/);
    return true;
  });
  for (const workerApp of ["127.0.0.1:50052", "http://evil.example/x", "dns:///worker:1", "a/b/c", "unix:/tmp/x"]) {
    await assert.rejects(mesh.pipeline.generate({ prompt: "a", workerApp }), { code: Code.InvalidArgument }, workerApp);
  }
});

test("caller's traceparent is linked by default and the parent when trusted", async (t) => {
  const caller = { traceId: "0af7651916cd43dd8448eb211c80319c", spanId: "b7ad6b7169203331" };
  const headers = {
    traceparent: `00-${caller.traceId}-${caller.spanId}-01`,
    tracestate: "vendor=secret",
    baggage: "user=secret",
  };
  for (const trustTraceparent of [false, true]) {
    const mesh = await meshFor(t, { trustTraceparent });
    const { traceId } = await mesh.pipeline.generate({ prompt: "a" }, { headers });
    const spans = await mesh.waitForTrace(traceId, 6);
    const root = spans.find(({ name }) => name === "image-pipeline");
    const inference = spans.find(({ name }) => name === "inference");
    assert.equal(inference?.parentSpanId, root?.spanId);
    if (trustTraceparent) {
      assert.equal(traceId, caller.traceId);
      assert.equal(root?.parentSpanId, caller.spanId);
      assert.deepEqual(
        spans.map(({ traceState }) => traceState),
        spans.map(() => "vendor=secret"),
      );
    } else {
      assert.notEqual(traceId, caller.traceId);
      assert.deepEqual([root?.parentSpanId, root?.links.map(({ traceId }) => traceId)], ["", [caller.traceId]]);
      assert.doesNotMatch(
        JSON.stringify(spans, (_, value) => (typeof value === "bigint" ? String(value) : value)),
        /secret/,
      );
    }
  }
});

test("unsampled trace has an id and no spans", async (t) => {
  const mesh = await meshFor(t, { environment: { OTEL_TRACES_SAMPLER: "always_off" } });
  const { traceId } = await mesh.pipeline.generate({ prompt: "a" });
  assert.match(traceId, /^[0-9a-f]{32}$/);
  assert.deepEqual(mesh.spans(), []);
});

for (const environment of [{ ENABLE_TRACING: "false" }, { OTEL_SDK_DISABLED: "true" }]) {
  test(`request with ${Object.keys(environment)} off succeeds and makes no spans`, async (t) => {
    const mesh = await meshFor(t, { environment });
    const { traceId, image } = await mesh.pipeline.generate({ prompt: "a" });
    assert.equal(traceId, "");
    assert.match(image?.url ?? "", /^data:image\/png;base64,/);
    assert.deepEqual(mesh.spans(), []);
  });
}

test("error during generation is recorded on its spans without its text", async (t) => {
  const engine = createFakeEngine({
    beforeStep(step) {
      if (step === 2) {
        throw new Error("tensor of a secret prompt");
      }
    },
  });
  const log: string[] = [];
  const mesh = await meshFor(t, { engine, onLog: (line) => log.push(line) });
  await assert.rejects(mesh.pipeline.generate({ prompt: "a", options: { seed: 7 } }), (error) => {
    assert.ok(error instanceof ConnectError);
    assert.deepEqual([error.code, error.rawMessage], [Code.Internal, "internal error"]);
    return true;
  });
  const spans = mesh.spans();
  const failures = log.filter((line) => line.includes("tensor of a secret"));
  assert.equal(failures.length, 1, "the log has the cause, once");
  assert.equal(JSON.parse(failures[0] ?? "").trace_id, spans[0]?.traceId);
  assert.deepEqual(
    spans
      .map(({ name, status, attributes, events }) =>
        [
          name,
          status.code,
          attributes["rpc.response.status_code"] ?? "",
          events.filter((event) => event.name === "exception").length,
        ].join(" "),
      )
      .sort(),
    [
      "call-inference-worker ERROR INTERNAL 1",
      "diffusion ERROR  1",
      "image-pipeline ERROR INTERNAL 0",
      "inference ERROR INTERNAL 0",
      "preprocess-prompt UNSET  0",
    ],
  );
  assert.doesNotMatch(dumpSpans(spans), /secret/);
});

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`third-party receiver gets the same six spans from both services over ${protocol}`, async (t) => {
    const receiver = await startOtlpReceiver({ protocol });
    t.after(() => receiver.stop());
    const mesh = await createTestMesh({
      wire: "port",
      environment: {
        OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=one%20two",
        OTEL_BSP_SCHEDULE_DELAY: "50",
      },
    });
    t.after(() => mesh.stop());
    const { traceId } = await mesh.pipeline.generate({ prompt: "  a red\theart ", options: { seed: 7 } });
    const ours = (spans: readonly { traceId: string }[]) =>
      spans.filter((span) => span.traceId === traceId).length >= 6;
    const spans = (await receiver.waitFor(ours)).filter((span) => span.traceId === traceId);
    assert.equal(dumpGenerated(spans), generated(14, 11, "Infer", "port"));
    assert.ok(receiver.exports.length >= 2, "each service exports for itself");
    assert.deepEqual(new Set(receiver.exports.map(({ headers }) => headers["x-tenant"])), new Set(["one two"]));
  });
}

/** Names, kinds and services of a trace, as a tree. */
function outline(spans: readonly SpanRecord[], parent = "", indent = ""): string {
  return spans
    .filter(({ parentSpanId }) => parentSpanId === parent)
    .map((span) => {
      const line = `${indent}${span.name} ${span.kind} ${span.service}${span.status.code === "ERROR" ? " ERROR" : ""}`;
      return [line, outline(spans, span.spanId, `${indent}  `)].filter((part) => part !== "").join("\n");
    })
    .sort()
    .join("\n");
}

test("stage spans, when enabled, are children of diffusion and upload", async (t) => {
  const mesh = await createTestMesh({ environment: { THROUGHLINE_STAGE_SPANS: "true" } });
  t.after(() => mesh.stop());
  const { traceId } = await mesh.pipeline.generate({ prompt: "a red heart" });
  const spans = await mesh.waitForTrace(traceId, 10);
  assert.equal(
    outline(spans),
    text`
      image-pipeline SERVER image-pipeline
        call-inference-worker CLIENT image-pipeline
        inference SERVER text-to-image-worker
          diffusion INTERNAL text-to-image-worker
            denoising INTERNAL text-to-image-worker
            text-encoding INTERNAL text-to-image-worker
            vae-decode INTERNAL text-to-image-worker
          upload INTERNAL text-to-image-worker
            image-encode INTERNAL text-to-image-worker
        preprocess-prompt INTERNAL image-pipeline
    `,
  );
  const stages = ["text-encoding", "denoising", "vae-decode", "image-encode"];
  const inOrderOfEnds = mesh.spans().flatMap(({ name }) => (stages.includes(name) ? [name] : []));
  assert.deepEqual(inOrderOfEnds, stages);
});
