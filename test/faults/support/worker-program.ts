import { randomFillSync } from "node:crypto";
import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { createFakeEngine } from "../../../src/testing/fake-engine.js";
import { createSpanCollector } from "../../../src/trace/telemetry/collectors.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";
import { createWorkerApp, type ManagedEngine, workerName } from "../../../src/worker/worker-app.js";
import type { WorkerOrder, WorkerReport } from "./worker-messages.js";

// A worker whose engine only waits. It reports generations and spans to its parent over a separate channel, independent of its network.

const [host = "", clockSkewMs = "0"] = process.argv.slice(2);
const stepMs = 20;
const report = (message: WorkerReport) => process.send?.(message);

const trueNow = Date.now;
Date.now = () => trueNow() + Number(clockSkewMs);

let held = false;
const releases = new Set<() => void>();
process.on("message", ({ hold }: WorkerOrder) => {
  held = hold;
  if (!hold) {
    for (const release of releases) {
      release();
    }
  }
});
process.on("disconnect", () => process.exit());

const waiting = createFakeEngine({
  async beforeStep(step, _request, signal) {
    if (held && step === 2) {
      report({ kind: "holding" });
      await Promise.race([new Promise<void>((resolve) => releases.add(resolve)), once(signal, "abort")]);
    }
    await delay(stepMs, undefined, { signal });
  },
});
const engine: ManagedEngine = {
  ...waiting,
  async generate(request, options) {
    const image = await waiting.generate(request, options);
    // Noise, so that an image weighs what a real one of its size does at the most.
    return { ...image, pixels: { ...image.pixels, data: randomFillSync(new Uint8Array(image.pixels.data.length)) } };
  },
};

const logger = pino({ level: "silent" });
const collector = createSpanCollector();
const telemetry = createTelemetry({
  serviceName: workerName,
  environment: {},
  log: logger,
  exporters: [
    {
      export(spans, settle) {
        collector.exporter.export(spans, settle);
        report({ kind: "spans", spans: collector.spans() });
        collector.clear();
      },
      shutdown: () => Promise.resolve(),
    },
  ],
});
const { port } = await createWorkerApp({ startEngine: async () => engine, telemetry, logger }).serve({
  host,
  port: 50_052,
  open: true,
});
report({ kind: "ready", port });
