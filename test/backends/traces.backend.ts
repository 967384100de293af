import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createPipelineClient } from "../../src/client/client.js";
import { dumpPainted } from "../support/painted-trace.js";
import type { StartBackend } from "./support/backend.js";
import { paintedTrace, refusedTrace } from "./support/expected-traces.js";
import { startJaeger } from "./support/jaeger.js";
import { startOtelCollector } from "./support/otel-collector.js";
import { quickPainting, startServices } from "./support/start-services.js";

const backends: Record<string, StartBackend> = {
  Jaeger: startJaeger,
  "the OpenTelemetry Collector": startOtelCollector,
};

for (const [name, start] of Object.entries(backends)) {
  for (const protocol of ["grpc", "http/protobuf"] as const) {
    suite(`${name}, by ${protocol}`, () => {
      test("gives back the traces that the services made, whole", async (t) => {
        const backend = await start(t);
        const baseUrl = await startServices(t, {
          OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoints[protocol],
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
        });
        const pipeline = createPipelineClient({ baseUrl });
        const { traceId } = await pipeline.generate({ prompt: "  a red\theart ", options: quickPainting });
        const painted = await backend.trace(traceId, 6);
        assert.equal(dumpPainted(painted), paintedTrace);
        for (const { startUnixNano, endUnixNano, resource } of painted) {
          assert.ok(endUnixNano >= startUnixNano);
          assert.equal(resource["telemetry.sdk.language"], "nodejs");
        }

        const refusal = await pipeline.generate({ prompt: "a", options: { ...quickPainting, width: 72 } }).then(
          () => assert.fail("the model takes widths of 72"),
          (error: unknown) => ConnectError.from(error),
        );
        const [, refusedId = ""] = refusal.metadata.get("traceresponse")?.split("-") ?? [];
        assert.equal(dumpPainted(await backend.trace(refusedId, 3)), refusedTrace);
      });
    });
  }
}
