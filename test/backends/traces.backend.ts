import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createPipelineClient } from "../../src/client/client.js";
import { dumpGenerated } from "../support/generated-trace.js";
import type { StartBackend } from "./support/backend.js";
import { generatedTrace, rejectedTrace } from "./support/expected-traces.js";
import { startJaeger } from "./support/jaeger.js";
import { startOtelCollector } from "./support/otel-collector.js";
import { quickGeneration, startServices } from "./support/start-services.js";

const backends: Record<string, StartBackend> = {
  Jaeger: startJaeger,
  "the OpenTelemetry Collector": startOtelCollector,
};

for (const [name, start] of Object.entries(backends)) {
  for (const protocol of ["grpc", "http/protobuf"] as const) {
    suite(`${name} by ${protocol}`, () => {
      test("backend returns the complete traces of the services", async (t) => {
        const backend = await start(t);
        const baseUrl = await startServices(t, {
          OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoints[protocol],
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        });
        const pipeline = createPipelineClient({ baseUrl });
        const { traceId } = await pipeline.generate({ prompt: "  a red\theart ", options: quickGeneration });
        const generated = await backend.trace(traceId, 6);
        assert.equal(dumpGenerated(generated), generatedTrace);
        for (const { startUnixNano, endUnixNano, resource } of generated) {
          assert.ok(endUnixNano >= startUnixNano);
          assert.equal(resource["telemetry.sdk.language"], "nodejs");
        }

        const rejection = await pipeline.generate({ prompt: "a", options: { ...quickGeneration, width: 72 } }).then(
          () => assert.fail("the model takes widths of 72"),
          (error: unknown) => ConnectError.from(error),
        );
        const [, rejectedId = ""] = rejection.metadata.get("traceresponse")?.split("-") ?? [];
        assert.equal(dumpGenerated(await backend.trace(rejectedId, 3)), rejectedTrace);
      });
    });
  }
}
