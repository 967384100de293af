import assert from "node:assert/strict";
import { test } from "node:test";
import { createPipelineClient } from "../../src/client/client.js";
import { until } from "./support/backend-process.js";
import { startOtelCollector } from "./support/otel-collector.js";
import { quickGeneration, startServices } from "./support/start-services.js";

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`OpenTelemetry Collector receives the log lines of a request with its span ids by ${protocol}`, async (t) => {
    const collector = await startOtelCollector(t);
    const baseUrl = await startServices(t, {
      OTEL_LOGS_EXPORTER: "otlp",
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoints[protocol],
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
    });
    const pipeline = createPipelineClient({ baseUrl });
    const { traceId } = await pipeline.generate({ prompt: "CANARY", options: quickGeneration });
    const spans = await collector.trace(traceId, 6);
    const records = await until("the lines of the request", async () => {
      const found = (await collector.logRecords()).filter((record) => record.traceId === traceId);
      return found.length >= 2 ? found : undefined;
    });
    const idOf = (name: string) => spans.find((span) => span.name === name)?.spanId;
    const line = { severityNumber: 9, severityText: "info", body: "call answered", traceId, flags: 1 };
    assert.deepEqual(
      records.toSorted((a, b) => (a.service < b.service ? -1 : 1)),
      [
        { ...line, service: "image-pipeline", spanId: idOf("image-pipeline") },
        { ...line, service: "text-to-image-worker", spanId: idOf("inference") },
      ],
    );
    assert.doesNotMatch(JSON.stringify(await collector.logRecords()), /CANARY/);
  });
}
