import { once } from "node:events";
import { setTimeout as delay } from "node:timers/promises";
import { pino } from "pino";
import { observe } from "../../src/app/observe.js";
import { createFakeEngine } from "../../src/testing/fake-engine.js";
import { createWorkerApp, type ManagedEngine } from "../../src/worker/worker-app.js";
import type { WorkerArguments, WorkerOrder, WorkerReport } from "./worker-process.js";

// A worker in a process of its own, whose engine takes time and does nothing. It can be held at a step, and ends with its parent.

const { port: wanted = 0, stepMs = 2 }: WorkerArguments = JSON.parse(process.argv[2] ?? "{}");
const report = (message: WorkerReport) => process.send?.(message);
let held = false;
const releases: (() => void)[] = [];
process.on("message", ({ hold }: WorkerOrder) => {
  held = hold;
  if (!hold) {
    for (const release of releases.splice(0)) {
      release();
    }
  }
});
process.on("disconnect", () => process.exit());

const waiting = createFakeEngine({
  async beforeStep(step, { prompt }, signal) {
    if (step === 1) {
      report({ kind: "begun", prompt });
    }
    if (held && step === 2) {
      report({ kind: "holding", prompt });
      await Promise.race([new Promise<void>((resolve) => releases.push(resolve)), once(signal, "abort")]);
    }
    await delay(stepMs, undefined, { signal });
  },
});
const engine: ManagedEngine = {
  ...waiting,
  async generate(request, options) {
    const image = await waiting.generate(request, options);
    report({ kind: "ended", prompt: request.prompt });
    return image;
  },
};
const { telemetry } = observe({
  serviceName: "text-to-image-worker",
  environment: process.env,
  level: "error",
  write: () => {},
});
const app = createWorkerApp({ startEngine: async () => engine, telemetry, logger: pino({ level: "silent" }) });
const running = await app.serve({ port: wanted });
process.on("SIGTERM", async () => {
  await running.stop();
  process.exit();
});
report({ kind: "ready", port: running.port });
