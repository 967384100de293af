import assert from "node:assert/strict";
import { it } from "node:test";
import { pino } from "pino";
import { createWorkerClient } from "../../src/client/client.js";
import { imageFileNameOf } from "../../src/image/image-store.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createWorkerApp } from "../../src/worker/worker-app.js";

it("paints the next picture while the one before is encoded and stored", async () => {
  const log = pino({ level: "silent" });
  const telemetry = createTelemetry({ serviceName: "worker", environment: { ENABLE_TRACING: "false" }, log });
  const story: string[] = [];
  let secondPaints = () => {};
  const secondIsPainted = new Promise<void>((resolve) => {
    secondPaints = resolve;
  });
  const engine = createFakeEngine({
    beforeStep(step, { prompt }) {
      if (step === 1) {
        story.push(`${prompt} is painted`);
        if (prompt === "second") {
          secondPaints();
        }
      }
    },
  });
  const app = createWorkerApp({
    startEngine: async () => engine,
    store: {
      async put(image) {
        story.push("a picture is stored");
        // For ever, if the first picture kept the engine until it is stored.
        await secondIsPainted;
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
    secondPaints();
    await stop();
    await telemetry.shutdown();
  }
  assert.ok(story.indexOf("second is painted") < story.indexOf("it is there"), story.join(", "));
});
