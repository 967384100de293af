import assert from "node:assert/strict";
import test from "node:test";
import { createTestMesh } from "../../src/testing/create-test-mesh.js";
import { dumpGenerated, generated } from "../support/generated-trace.js";
import { startOtlpReceiver } from "../support/otlp-receiver.js";

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`third-party receiver gets the same six spans from both services over ${protocol}`, async (t) => {
    const receiver = await startOtlpReceiver({ protocol });
    t.after(() => receiver.stop());
    const mesh = await createTestMesh({
      wire: "port",
      environment: {
        OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint,
        OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        OTEL_EXPORTER_OTLP_HEADERS: "x-tenant=one%20two",
        OTEL_BSP_SCHEDULE_DELAY: "50",
      },
    });
    t.after(() => mesh.stop());
    const { traceId } = await mesh.pipeline.generate({ prompt: "  a red\theart ", options: { seed: 7 } });
    const ours = (spans: readonly { traceId: string }[]) =>
      spans.filter((span) => span.traceId === traceId).length >= 6;
    const spans = (await receiver.waitFor(ours)).filter((span) => span.traceId === traceId);
    assert.equal(dumpGenerated(spans), generated(14, 11, "Infer", "port"));
    assert.ok(receiver.exports.length >= 2, "each service exports for itself");
    assert.deepEqual(new Set(receiver.exports.map(({ headers }) => headers["x-tenant"])), new Set(["one two"]));
  });
}
