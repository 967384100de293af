import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { ConnectError } from "@connectrpc/connect";
import { createPipelineClient } from "../../src/client/client.js";
import { startCommand } from "../cli/support/run-command.js";
import { dumpPainted } from "../support/painted-trace.js";
import type { StartBackend } from "./support/backend.js";
import { paintedTrace, refusedTrace } from "./support/expected-traces.js";
import { startJaeger } from "./support/jaeger.js";
import { startOtelCollector } from "./support/otel-collector.js";

/** A worker with the embedded model and a pipeline before it, as processes of their own. @returns the pipeline's URL. */
async function startServices(t: TestContext, environment: Record<string, string>): Promise<string> {
  const urlOf = async (args: readonly string[]) => {
    const command = startCommand(t, [...args, "--port", "0"], { OTEL_BSP_SCHEDULE_DELAY: "200", ...environment });
    return (await command.waitFor(/is ready at (\S+)/))[1] ?? "";
  };
  const app = "local/text-to-image-worker";
  const worker = await urlOf(["worker", "--app", app, "--device", "cpu"]);
  return urlOf(["pipeline", "--worker", `${app}=${new URL(worker).host}`]);
}

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
        const options = { seed: 7, numInferenceSteps: 2, width: 64, height: 64 };
        const { traceId } = await pipeline.generate({ prompt: "  a red\theart ", options });
        const painted = await backend.trace(traceId, 6);
        assert.equal(dumpPainted(painted), paintedTrace);
        for (const { startUnixNano, endUnixNano, resource } of painted) {
          assert.ok(endUnixNano >= startUnixNano);
          assert.equal(resource["telemetry.sdk.language"], "nodejs");
        }

        const refusal = await pipeline.generate({ prompt: "a", options: { ...options, width: 72 } }).then(
          () => assert.fail("the model takes widths of 72"),
          (error: unknown) => ConnectError.from(error),
        );
        const [, refusedId = ""] = refusal.metadata.get("traceresponse")?.split("-") ?? [];
        assert.equal(dumpPainted(await backend.trace(refusedId, 3)), refusedTrace);
      });
    });
  }
}
