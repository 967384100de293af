import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { steadyPort } from "../../support/steady-port.js";
import type { StartBackend } from "./backend.js";
import { programOf, startBackend, until } from "./backend-process.js";
import { spansFromJaeger } from "./jaeger-spans.js";

/** Jaeger with its storage in memory, asked by the API that its page uses. */
export const startJaeger: StartBackend = async (t) => {
  const [grpc, http, query, queryGrpc] = [
    await steadyPort(),
    await steadyPort(),
    await steadyPort(),
    await steadyPort(),
  ];
  const configFile = join(await temporaryFolder(), "jaeger.yaml");
  await writeFile(
    configFile,
    `
service:
  extensions: [jaeger_storage, jaeger_query]
  pipelines:
    traces: { receivers: [otlp], exporters: [jaeger_storage_exporter] }
  telemetry: { metrics: { level: none } }
extensions:
  jaeger_storage: { backends: { memory: { memory: { max_traces: 1000 } } } }
  jaeger_query:
    storage: { traces: memory }
    http: { endpoint: "127.0.0.1:${query}" }
    grpc: { endpoint: "127.0.0.1:${queryGrpc}" }
receivers:
  otlp:
    protocols:
      grpc: { endpoint: "127.0.0.1:${grpc}" }
      http: { endpoint: "127.0.0.1:${http}" }
exporters:
  jaeger_storage_exporter: { trace_storage: memory }
`,
  );
  await startBackend(t, programOf("JAEGER"), configFile);
  return {
    endpoints: { grpc: `http://127.0.0.1:${grpc}`, "http/protobuf": `http://127.0.0.1:${http}` },
    trace: (traceId, count) =>
      until(`the trace ${traceId}`, async () => {
        const response = await fetch(`http://127.0.0.1:${query}/api/traces/${traceId}`);
        const spans = response.ok ? spansFromJaeger(await response.json()) : [];
        return spans.length >= count ? spans : undefined;
      }),
  };
};
