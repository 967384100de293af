import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { until } from "./support/backend-process.js";
import { startOtelCollector } from "./support/otel-collector.js";

const requestsPerSecond = 20;
const outageMs = 20_000;
const aroundMs = 5_000;

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`OpenTelemetry Collector outage of 20 s loses no span by ${protocol}`, async (t) => {
    const collector = await startOtelCollector(t);
    const mesh = await createTestMesh({
      wire: "port",
      environment: {
        OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoints[protocol],
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_BSP_SCHEDULE_DELAY: "500",
      },
    });
    t.after(() => mesh.stop());

    const requests: Promise<unknown>[] = [];
    const timer = setInterval(
      () => requests.push(mesh.pipeline.generate({ prompt: "a red heart" })),
      1000 / requestsPerSecond,
    );
    await delay(aroundMs);
    await collector.stop();
    const before = new Set((await collector.spans()).map(({ spanId }) => spanId));
    await delay(outageMs);
    await collector.start();
    await delay(aroundMs);
    clearInterval(timer);
    await Promise.all(requests);

    const made = new Set(mesh.spans().map(({ spanId }) => spanId));
    assert.equal(made.size, requests.length * 6);
    assert.ok(before.size > 0 && before.size < made.size, `${before.size} spans came before the outage`);
    const received = await until("all spans", async () => {
      const spans = (await collector.spans()).filter(({ spanId }) => made.has(spanId));
      return new Set(spans.map(({ spanId }) => spanId)).size === made.size ? spans : undefined;
    });
    t.diagnostic(
      `${made.size} spans of ${requests.length} requests, ${received.length - made.size} of them came twice`,
    );
  });
}
