import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { startOtlpReceiver } from "../support/otlp-receiver.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const fromSources = ["--conditions=throughline-source", "--import", "tsx"];

test("otelconnect example makes one trace of three spans of two services", async (t) => {
  const receiver = await startOtlpReceiver();
  t.after(() => receiver.stop());
  const options = {
    cwd: root,
    env: { PATH: process.env["PATH"], OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, PORT: "0" },
  };
  const server = spawn(process.execPath, [...fromSources, "examples/otelconnect/src/server.ts"], {
    ...options,
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => server.kill("SIGKILL"));
  const [line]: unknown[] = await once(server.stdout.setEncoding("utf8"), "data");
  const url = String(line).replace("listening at ", "").trim();

  const client = await promisify(execFile)(
    process.execPath,
    [...fromSources, "examples/otelconnect/src/client.ts", url],
    options,
  );
  const traceId = /^status 1, trace ([0-9a-f]{32})\n$/.exec(client.stdout)?.[1];
  const ended = once(server, "close");
  server.kill("SIGTERM");
  assert.deepEqual(await ended, [0, null]);

  const spans = await receiver.waitFor((received) => received.length >= 3);
  const tree = spans.map(({ traceId, parentSpanId, service, name, kind }) => ({
    traceId,
    span: `${service} ${name} ${kind}`,
    parent: spans.find((other) => other.spanId === parentSpanId)?.service ?? parentSpanId,
  }));
  assert.deepEqual(
    tree.toSorted((a, b) => a.span.localeCompare(b.span)),
    [
      { traceId, span: "health-client grpc.health.v1.Health/Check CLIENT", parent: "health-client" },
      { traceId, span: "health-client morning-check INTERNAL", parent: "" },
      { traceId, span: "health-server grpc.health.v1.Health/Check SERVER", parent: "health-client" },
    ],
  );
});
