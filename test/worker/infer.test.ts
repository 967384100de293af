import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createNoopMeter, ProxyTracerProvider } from "@opentelemetry/api";
import type { PaintEvent } from "../../src/engine/engine.js";
import type { Progress } from "../../src/gen/throughline/v1/image_pb.js";
import { InferRequestSchema } from "../../src/gen/throughline/v1/worker_pb.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createSilentPropagator } from "../../src/trace/telemetry/spans.js";
import { createAdmission } from "../../src/worker/admission.js";
import { infer } from "../../src/worker/infer.js";
import { createWorkerMetrics } from "../../src/worker/worker-metrics.js";

const steps = 20;

/** The events of one request for a preview at each step, and when its painting has come to its end. */
function inferWithPreviews() {
  const fake = createFakeEngine();
  let ended = () => {};
  const painted = new Promise<void>((resolve) => {
    ended = resolve;
  });
  const engine = {
    info: fake.info,
    async *paint(...[request, signal]: Parameters<typeof fake.paint>): AsyncGenerator<PaintEvent> {
      yield* fake.paint(request, signal);
      ended();
    },
  };
  const tracer = new ProxyTracerProvider().getTracer("none");
  const events = infer(
    create(InferRequestSchema, { prompt: "a heart", options: { numInferenceSteps: steps, previewInterval: 1 } }),
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
  );
  return { events, painted };
}

test("a reader that stalls gets every step, but of the previews only the newest, eight at most", async () => {
  const { events, painted } = inferWithPreviews();
  const progress: Pick<Progress, "step" | "preview">[] = [];
  for await (const event of events) {
    if (event.case === "progress") {
      if (progress.length === 0) {
        await painted;
      }
      progress.push({ step: event.value.step ?? 0, preview: event.value.preview ?? new Uint8Array() });
    }
  }
  const all = progress.filter(({ step }) => step > 0);
  assert.deepEqual(
    all.map(({ step }) => step),
    Array.from({ length: steps }, (_, index) => index + 1),
  );
  const withPreview = all.filter(({ preview }) => preview.length > 0);
  assert.ok(withPreview.length > 0 && withPreview.length <= 8, `${withPreview.length} previews waited`);
  assert.deepEqual(withPreview, all.slice(-withPreview.length));
});
