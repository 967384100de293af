import assert from "node:assert/strict";
import test, { it } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { createNoopMeter, ProxyTracerProvider } from "@opentelemetry/api";
import { pino } from "pino";
import { createWorkerClient } from "../../src/client/client.js";
import { GenerationError, type GenerationRequest } from "../../src/engine/engine.js";
import { InferRequestSchema } from "../../src/gen/throughline/v1/worker_pb.js";
import { createImageDecoder } from "../../src/image/decode-image.js";
import { imageFileNameOf } from "../../src/image/image-store.js";
import { ImageStoreError } from "../../src/image/image-store-error.js";
import { hasReason } from "../../src/mesh/errors/errors.js";
import { userErrorOf } from "../../src/page/request/user-error.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createSilentPropagator } from "../../src/trace/telemetry/spans.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createAdmission } from "../../src/worker/admission.js";
import { toConnectError } from "../../src/worker/errors.js";
import { infer } from "../../src/worker/infer.js";
import type { InferEvent } from "../../src/worker/progress.js";
import { createWorkerApp } from "../../src/worker/worker-app.js";
import { createWorkerMetrics } from "../../src/worker/worker-metrics.js";

/** Runs one request for a preview at each of four steps; what the engine was asked for comes back beside the response. */
async function inferOnce(emit?: (event: InferEvent) => void) {
  const fake = createFakeEngine();
  let engineRequest: GenerationRequest | undefined;
  const engine: typeof fake = {
    ...fake,
    generate(request, options) {
      engineRequest = request;
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
      log() {},
    },
    {
      engine,
      admission: createAdmission(),
      tracer,
      stageTracer: tracer,
      metrics: createWorkerMetrics({ meter: createNoopMeter(), queue: { limit: 0, length: () => 0 } }),
      images: createImageDecoder(),
      propagator: createSilentPropagator(),
      headerPolicy: "ignore",
      store: undefined,
      genaiAttributes: false,
      imageMetadata: false,
    },
    emit,
  );
  return { response, engineRequest };
}

test("infer without a progress reader requests no previews from the engine", async () => {
  const { response, engineRequest } = await inferOnce();
  assert.ok(response.image?.url.startsWith("data:image/png;base64,"));
  assert.equal(engineRequest?.previewInterval, undefined);
});

test("infer with a progress reader emits each stage and step with the requested previews", async () => {
  const events: InferEvent[] = [];
  const { engineRequest } = await inferOnce((event) => void events.push(event));
  assert.equal(engineRequest?.previewInterval, 1);
  const steps = events.flatMap((event) => (event.case === "progress" && event.value.step > 0 ? [event.value] : []));
  assert.deepEqual(
    steps.map(({ step, totalSteps, preview }) => [step, totalSteps, preview !== undefined]),
    [1, 2, 3, 4].map((step) => [step, 4, true]),
  );
  assert.equal(events.length, steps.length + 4, "text encoding, denoising, decoding, upload");
});

test("ENGINE_LOST is set only for a request during which the engine died", () => {
  for (const whileGenerating of [true, false]) {
    const error = toConnectError(
      new GenerationError("lost", "the engine died", { whileGenerating }),
      new AbortController().signal,
      () => "",
    );
    assert.deepEqual([error.code, hasReason(error, "ENGINE_LOST")], [Code.Unavailable, whileGenerating]);
  }
});

test("a request with several wrong fields is rejected with all of them, in text and as violations", () => {
  const violations = [
    { field: "width", message: "this model takes a multiple of 32 from 64 to 256" },
    { field: "steps", message: "this model takes a whole number from 1 to 50" },
  ] as const;
  const error = toConnectError(
    new GenerationError("unsupported", "two wrong fields", { violations }),
    new AbortController().signal,
    () => "",
  );
  assert.equal(error.code, Code.InvalidArgument);
  assert.equal(
    error.rawMessage,
    "options.width: this model takes a multiple of 32 from 64 to 256; " +
      "options.num_inference_steps: this model takes a whole number from 1 to 50",
  );
  const shown = [...userErrorOf(error).fields];
  assert.deepEqual(shown, [
    ["width", "This model takes a multiple of 32 from 64 to 256."],
    ["steps", "This model takes a whole number from 1 to 50."],
  ]);
});

test("full image disk is UNAVAILABLE without the folder's name and forbids a retry elsewhere", () => {
  const full = new ImageStoreError("full", "no space is left in /srv/images");
  const error = toConnectError(full, new AbortController().signal, () => "upload");
  assert.equal(error.message, "[unavailable] the image cannot be stored: the image store is full");
  assert.deepEqual([error.cause, error.metadata.get("grpc-retry-pushback-ms")], [full, "-1"]);
});

it("worker generates the next image while the previous one is encoded and stored", async () => {
  const log = pino({ level: "silent" });
  const telemetry = createTelemetry({ serviceName: "worker", environment: { ENABLE_TRACING: "false" }, log });
  const story: string[] = [];
  let secondGenerates = () => {};
  const secondIsGenerated = new Promise<void>((resolve) => {
    secondGenerates = resolve;
  });
  const engine = createFakeEngine({
    beforeStep(step, { prompt }) {
      if (step === 1) {
        story.push(`${prompt} is generated`);
        if (prompt === "second") {
          secondGenerates();
        }
      }
    },
  });
  const app = createWorkerApp({
    startEngine: async () => engine,
    store: {
      async put(image) {
        story.push("an image is stored");
        // For ever, if the first image kept the engine until it is stored.
        await secondIsGenerated;
        story.push("it is there");
        return imageFileNameOf(image);
      },
      get: async () => undefined,
    },
    telemetry,
    logger: log,
  });
  const { transport, stop } = await app.start();
  const worker = createWorkerClient({ transport });
  const signal = AbortSignal.timeout(30_000);
  try {
    await Promise.all(["first", "second"].map((prompt) => worker.infer({ prompt }, { signal })));
  } finally {
    secondGenerates();
    await stop();
    await telemetry.shutdown();
  }
  assert.ok(story.indexOf("second is generated") < story.indexOf("it is there"), story.join(", "));
});
