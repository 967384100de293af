import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createNoopMeter, ProxyTracerProvider } from "@opentelemetry/api";
import type { GenerationRequest } from "../../src/engine/engine.js";
import { InferRequestSchema } from "../../src/gen/throughline/v1/worker_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createSilentPropagator } from "../../src/trace/telemetry/spans.js";
import { createAdmission } from "../../src/worker/admission.js";
import { infer } from "../../src/worker/infer.js";
import type { InferEvent } from "../../src/worker/progress.js";
import { createWorkerMetrics } from "../../src/worker/worker-metrics.js";

/** Runs one request for a preview at each of four steps; what the engine was asked for comes back beside the response. */
async function inferOnce(emit?: (event: InferEvent) => void) {
  const fake = createFakeEngine();
  let asked: GenerationRequest | undefined;
  const engine: typeof fake = {
    ...fake,
    generate(request, options) {
      asked = request;
      return fake.generate(request, options);
    },
  };
  const tracer = new ProxyTracerProvider().getTracer("none");
  const response = await infer(
    create(InferRequestSchema, { prompt: "a heart", options: { numInferenceSteps: 4, previewInterval: 1 } }),
    {
      signal: new AbortController().signal,
      remainingMs: undefined,
      caller: "somebody",
      baseUrl: "http://127.0.0.1",
      header: new Headers(),
      onSpan() {},
    },
    {
      engine,
      admission: createAdmission(),
      tracer,
      stageTracer: tracer,
      metrics: createWorkerMetrics({ meter: createNoopMeter(), queue: { limit: 0, length: () => 0 } }),
      propagator: createSilentPropagator(),
      headerPolicy: "ignore",
      store: undefined,
    },
    emit,
  );
  return { response, asked };
}

test("infer without a progress reader requests no previews from the engine", async () => {
  const { response, asked } = await inferOnce();
  assert.ok(response.image?.url.startsWith("data:image/png;base64,"));
  assert.equal(asked?.previewInterval, undefined);
});

test("infer with a progress reader emits each stage and step with the requested previews", async () => {
  const events: InferEvent[] = [];
  const { asked } = await inferOnce((event) => void events.push(event));
  assert.equal(asked?.previewInterval, 1);
  const steps = events.flatMap((event) => (event.case === "progress" && event.value.step > 0 ? [event.value] : []));
  assert.deepEqual(
    steps.map(({ step, totalSteps, preview }) => [step, totalSteps, preview !== undefined]),
    [1, 2, 3, 4].map((step) => [step, 4, true]),
  );
  assert.equal(events.length, steps.length + 4, "text encoding, denoising, decoding, upload");
});
