import { setTimeout as delay } from "node:timers/promises";
import { createTestMesh } from "../../src/testing/testing.js";
import { startOtlpReceiver } from "../../test/support/otlp-receiver.js";
import { writeReport } from "../support/figures.js";

/* npm run bench -- export: spans lost while the collector is gone for a minute (or -- SECONDS) under load, counted by span id at a foreign receiver. */

const requestsPerSecond = 50;
const beforeMs = 10_000;
const goneMs = Number(process.argv[2] ?? 60) * 1000;
const afterMs = 10_000;

const before = await startOtlpReceiver();
const lines: string[] = [];
const mesh = await createTestMesh({
  wire: "port",
  maxWaiting: 10_000,
  environment: { OTEL_EXPORTER_OTLP_ENDPOINT: before.endpoint },
  onLog: (line) => /"spans/.test(line) && lines.push(line.trim()),
});

const running = new Set<Promise<unknown>>();
let asked = 0;
let failed = 0;
const start = performance.now();
const timer = setInterval(() => {
  // A late timer does not lower the rate.
  for (const due = ((performance.now() - start) / 1000) * requestsPerSecond; asked < due; asked++) {
    const call = mesh.pipeline
      .generate({ prompt: "a red heart", options: { seed: asked, width: 64, height: 64 } })
      .catch(() => failed++)
      .finally(() => running.delete(call));
    running.add(call);
  }
}, 20);

await delay(beforeMs);
const buffersBefore = process.memoryUsage().arrayBuffers;
await before.stop();
await delay(goneMs);
const buffersAfter = process.memoryUsage().arrayBuffers;
const madeUntilBack = mesh.spans().length;
const after = await startOtlpReceiver({ port: Number(new URL(before.endpoint).port) });
const backAt = performance.now();
const caughtUp = after
  .waitFor((spans) => before.spans().length + spans.length >= madeUntilBack - 1024, 60_000)
  .catch(() => {
    // The figures say what did not come.
  });
await delay(afterMs);
clearInterval(timer);
const seconds = (performance.now() - start) / 1000;
await Promise.all(running);
await caughtUp;
const caughtUpMs = performance.now() - backAt;
await mesh.stop();

const made = new Set(mesh.spans().map(({ spanId }) => spanId));
const received = [...before.spans(), ...after.spans()].map(({ spanId }) => spanId);
const got = new Set(received);
await after.stop();
process.stderr.write(`${lines.join("\n")}\n`);
await writeReport("export", {
  title: "Collector outage under load",
  figures: [
    {
      name: "requests",
      value: asked,
      unit: "",
      note: `over ${seconds.toFixed(0)} s, gRPC, fake engine, one process`,
    },
    { name: "failed requests", value: failed, unit: "", goal: "0" },
    { name: "rate", value: asked / seconds, unit: "/s", goal: `${requestsPerSecond}` },
    { name: "outage of the collector", value: goneMs / 1000, unit: "s" },
    { name: "spans created", value: made.size, unit: "", note: "ids, counted in the services" },
    { name: "spans received", value: got.size, unit: "", note: "ids, counted at the receiver" },
    { name: "spans lost", value: [...made].filter((id) => !got.has(id)).length, unit: "", goal: "0" },
    { name: "spans received twice", value: received.length - got.size, unit: "" },
    {
      name: "time to deliver the queued spans after the outage",
      value: caughtUpMs / 1000,
      unit: "s",
      note: "upper bound: checked after the load had ended",
    },
    {
      name: "memory growth during the outage",
      value: (buffersAfter - buffersBefore) / 2 ** 20,
      unit: "MiB",
      note: "whole process, services and load together",
    },
  ],
});
