import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { createServer as createHttpServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { createServer } from "node:net";
import { type TestContext, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import * as z from "zod";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";
import { startOtlpLogReceiver } from "../../support/otlp-log-receiver.js";
import { startOtlpReceiver } from "../../support/otlp-receiver.js";
import { loaderArguments, testProgram } from "../../support/test-program.js";

async function rejectingEndpoint(t: TestContext): Promise<string> {
  const server = createServer();
  const { url } = await listenOnLoopback(t, server);
  await new Promise((resolve) => server.close(resolve));
  return url;
}

const names = z.array(z.string());
const result = z.object({ late: names, keptAliveBy: names, warnings: names });

test("shutdown ends within 4 s whatever the collector does, and the process then exits by itself", async (t) => {
  const grpc = await startOtlpReceiver();
  const http = await startOtlpReceiver({ protocol: "http/protobuf" });
  t.after(() => Promise.all([grpc.stop(), http.stop()]));
  const logs = { grpc: await startOtlpLogReceiver("grpc"), http: await startOtlpLogReceiver("http/protobuf") };
  t.after(() => Promise.all([logs.grpc.stop(), logs.http.stop()]));
  const mute = createServer(() => {});
  const silent = createHttp2Server();
  silent.on("stream", (stream) => stream.on("error", () => {}));
  const busy = createHttpServer((_request, response) => response.writeHead(503, { "retry-after": "1" }).end());
  const { url: muteEndpoint } = await listenOnLoopback(t, mute);
  const rejecting = await rejectingEndpoint(t);
  const collectors = {
    "grpc fine": {
      OTEL_EXPORTER_OTLP_ENDPOINT: grpc.endpoint,
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: logs.grpc.endpoint,
    },
    "grpc rejecting": { OTEL_EXPORTER_OTLP_ENDPOINT: rejecting },
    "grpc mute": { OTEL_EXPORTER_OTLP_ENDPOINT: muteEndpoint },
    "grpc silent": { OTEL_EXPORTER_OTLP_ENDPOINT: (await listenOnLoopback(t, silent)).url },
    "http fine": {
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
      OTEL_EXPORTER_OTLP_ENDPOINT: http.endpoint,
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: `${logs.http.endpoint}/v1/logs`,
    },
    "http rejecting": { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_EXPORTER_OTLP_ENDPOINT: rejecting },
    "http mute": { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf", OTEL_EXPORTER_OTLP_ENDPOINT: muteEndpoint },
    "http busy": {
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
      OTEL_EXPORTER_OTLP_ENDPOINT: (await listenOnLoopback(t, busy)).url,
    },
  };
  const exportRunning = {
    OTEL_BSP_SCHEDULE_DELAY: "1",
    OTEL_BLRP_SCHEDULE_DELAY: "1",
    OTEL_EXPORTER_OTLP_TIMEOUT: "10000",
  };
  const environments = Object.entries(collectors).flatMap(([name, environment]) => [
    [name, { OTEL_LOGS_EXPORTER: "otlp", ...environment }],
    [`${name}, export on its way`, { OTEL_LOGS_EXPORTER: "otlp", ...environment, ...exportRunning }],
  ]);
  const script = fileURLToPath(testProgram("../../support/export-and-exit", import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [
    ...loaderArguments,
    script,
    JSON.stringify(Object.fromEntries(environments)),
  ]);
  const { late, keptAliveBy, warnings } = result.parse(JSON.parse(stdout));
  assert.deepEqual([late, keptAliveBy], [[], []]);
  const failing = environments.map(([name]) => String(name)).filter((name) => !name.includes("fine"));
  assert.deepEqual(
    warnings.filter((name) => name.includes("fine")),
    [],
  );
  const losses = failing.flatMap((name) => [`spans: ${name}`, `log records: ${name}`, `metrics: ${name}`]);
  assert.deepEqual(new Set(warnings), new Set(losses), "every loss is told");
  assert.equal(grpc.spans().length, 4);
  assert.equal(http.spans().length, 4);
  for (const { metrics } of [grpc, http]) {
    assert.deepEqual(
      new Set(metrics.flat().map(({ service }) => service)).size,
      2,
      "both services' last metrics came, whatever the schedule",
    );
  }
  assert.deepEqual([logs.grpc.records().length, logs.http.records().length], [4, 4]);
});
