import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import * as z from "zod";
import { createTestMesh, type TestMeshOptions } from "../../src/testing/create-test-mesh.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";

const lineSchema = z.looseObject({
  level: z.enum(["trace", "debug", "info", "warn", "error", "fatal"]),
  time: z.iso.datetime(),
  service: z.string(),
  msg: z.string(),
  method: z.string().optional(),
  code: z.string().optional(),
  trace_id: z.string().optional(),
  span_id: z.string().optional(),
  trace_flags: z.string().optional(),
  err: z.object({ type: z.string(), message: z.string() }).optional(),
});

/** A mesh on real ports, and its log. */
async function loggedMesh(t: TestContext, options: TestMeshOptions) {
  const lines: string[] = [];
  const mesh = await createTestMesh({ wire: "port", ...options, onLog: (line) => lines.push(line) });
  t.after(() => mesh.stop());
  return {
    mesh,
    lines,
    /** Lines of calls, except the pipeline's own questions for a worker's model, which come at any time. */
    ofCalls: () =>
      lines
        .map((line) => lineSchema.parse(JSON.parse(line)))
        .filter(({ method }) => method !== undefined && !method.endsWith("/DescribeModel")),
  };
}

const failing = () =>
  createFakeEngine({
    beforeStep(step) {
      if (step === 2) {
        throw new Error("the tensor is no number");
      }
    },
  });

for (const environment of [{}, { OTEL_TRACES_SAMPLER: "always_off" }]) {
  const sampled = environment.OTEL_TRACES_SAMPLER === undefined;
  test(`log lines of a failed request carry the ids of their service's span, ${sampled ? "" : "not "}sampled`, async (t) => {
    const { mesh, lines, ofCalls } = await loggedMesh(t, { engine: failing(), environment });
    const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    await assert.rejects(
      mesh.pipeline.generate({ prompt: "CANARY" }, { headers: { traceparent: parent } }),
      /internal error/,
    );
    const [worker, pipeline, ...others] = ofCalls();
    assert.deepEqual(others, []);
    assert.deepEqual(
      [worker, pipeline].map((line) => [line?.service, line?.level, line?.code, line?.err?.message]),
      [
        ["text-to-image-worker", "error", "INTERNAL", "the tensor is no number"],
        ["image-pipeline", "warn", "INTERNAL", undefined],
      ],
    );
    assert.match(worker?.span_id ?? "", /^[0-9a-f]{16}$/);
    assert.notEqual(worker?.span_id, pipeline?.span_id);
    assert.equal(worker?.trace_id, pipeline?.trace_id);
    assert.notEqual(worker?.trace_id, parent.slice(3, 35), "the caller's trace is linked, not joined");
    assert.deepEqual([worker?.trace_flags, pipeline?.trace_flags], sampled ? ["01", "01"] : ["00", "00"]);
    if (sampled) {
      const idOf = (name: string) => mesh.spans().find((span) => span.name === name)?.spanId;
      assert.deepEqual([worker?.span_id, pipeline?.span_id], [idOf("inference"), idOf("image-pipeline")]);
    }
    assert.doesNotMatch(lines.join(""), /CANARY/);
  });
}

test("unary and streaming calls each log one line with their service's span", async (t) => {
  const { mesh, ofCalls } = await loggedMesh(t, {});
  const { traceId } = await mesh.pipeline.generate({ prompt: "a" });
  for await (const _ of mesh.pipeline.generateStream({ request: { prompt: "a" } })) {
    // To the end.
  }
  const spans = mesh.spans().filter(({ name }) => name === "inference" || name === "image-pipeline");
  const lines = ofCalls();
  assert.deepEqual(
    lines.map(({ method, level, msg }) => [method, level, msg]),
    [
      ["throughline.v1.TextToImageWorkerService/Infer", "info", "call answered"],
      ["throughline.v1.ImagePipelineService/Generate", "info", "call answered"],
      ["throughline.v1.TextToImageWorkerService/InferStream", "info", "call answered"],
      ["throughline.v1.ImagePipelineService/GenerateStream", "info", "call answered"],
    ],
  );
  assert.deepEqual(
    lines.map(({ trace_id, span_id }) => `${trace_id} ${span_id}`),
    spans.map((span) => `${span.traceId} ${span.spanId}`),
  );
  assert.deepEqual([lines[0]?.trace_id, lines[1]?.trace_id], [traceId, traceId]);
});

test("call's line has the model, and the pipeline's the worker app", async (t) => {
  const { mesh, lines, ofCalls } = await loggedMesh(t, {});
  const { model } = await mesh.pipeline.generate({ prompt: "CANARY" });
  await assert.rejects(mesh.pipeline.generate({ prompt: "CANARY", workerApp: "CANARY/unknown" }));
  assert.ok(model);
  assert.deepEqual(
    ofCalls().map(({ code, model, workerApp }) => [code, model, workerApp]),
    [
      ["OK", model, undefined],
      ["OK", model, "local/text-to-image-worker"],
      ["NOT_FOUND", undefined, undefined],
    ],
  );
  assert.doesNotMatch(lines.join(""), /CANARY/);
});

test("rejected request logs one line with the pipeline's span and without the request's content", async (t) => {
  const { mesh, lines, ofCalls } = await loggedMesh(t, {});
  await assert.rejects(mesh.pipeline.generate({ prompt: "CANARY".repeat(1000) }));
  const [line, ...others] = ofCalls();
  assert.deepEqual(others, []);
  assert.deepEqual([line?.level, line?.code], ["info", "INVALID_ARGUMENT"]);
  assert.equal(line?.span_id, mesh.spans().at(-1)?.spanId);
  assert.doesNotMatch(lines.join(""), /CANARY/);
});

test("log lines have no trace ids when tracing is off", async (t) => {
  const { mesh, ofCalls } = await loggedMesh(t, { environment: { ENABLE_TRACING: "false" } });
  await mesh.pipeline.generate({ prompt: "a" });
  assert.deepEqual(
    ofCalls().map(({ trace_id, span_id, trace_flags }) => [trace_id, span_id, trace_flags]),
    [
      [undefined, undefined, undefined],
      [undefined, undefined, undefined],
    ],
  );
});
