import assert from "node:assert/strict";
import { it } from "node:test";
import { pino } from "pino";
import { createWorkerClient } from "../../src/client/client.js";
import { imageFileNameOf } from "../../src/image/image-store.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";
import { createWorkerApp } from "../../src/worker/worker-app.js";

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
