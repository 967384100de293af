import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:http2";
import { type TestContext, test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createCollector } from "../../src/studio/collector.js";
import { traceIdOf, withSpan } from "../../src/trace/span-scope.js";
import { createTelemetry } from "../../src/trace/telemetry/telemetry.js";

async function startCollector(t: TestContext) {
  const { routes, httpHandler, store } = createCollector();
  const handler = createConnectHandler({ routes, fallback: httpHandler });
  const listening = await listen({ handler, host: "127.0.0.1", port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  return { url: listening.url, store };
}

for (const compression of ["none", "gzip"]) {
  test(`collector accepts gRPC and HTTP exports on one port, compression ${compression}`, async (t) => {
    const { url, store } = await startCollector(t);
    for (const protocol of ["grpc", "http/protobuf"]) {
      const telemetry = createTelemetry({
        serviceName: "image-pipeline",
        environment: {
          OTEL_EXPORTER_OTLP_ENDPOINT: url,
          OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
          OTEL_EXPORTER_OTLP_COMPRESSION: compression,
        },
        log: { warn: (fields, message) => assert.fail(`${message} ${JSON.stringify(fields)}`) },
      });
      const traceId = await withSpan(telemetry.tracer, "work", { parent: ROOT_CONTEXT }, (_span, scope) =>
        traceIdOf(scope),
      );
      await telemetry.shutdown();
      const spans = await store.waitForTrace(traceId, ({ length }) => length === 1, AbortSignal.timeout(30_000));
      assert.equal(spans[0]?.service, "image-pipeline");
    }
  });
}

test("OTLP/HTTP works over HTTP/2", async (t) => {
  const { url } = await startCollector(t);
  const session = connect(url);
  t.after(() => session.destroy());
  const stream = session.request({ ":method": "POST", ":path": "/v1/traces", "content-type": "application/json" });
  stream.end("{}");
  const [headers] = await once(stream, "response");
  assert.equal(headers[":status"], 200);
  stream.resume();
  await once(stream, "close");
});

test("collector accepts metrics and logs by gRPC and HTTP and discards them", async (t) => {
  const { routes, interceptors, httpHandler } = createCollector();
  const { url, stop } = await listen({
    port: 0,
    handler: createConnectHandler({ routes, interceptors, fallback: httpHandler }),
  });
  t.after(() => stop({ graceMs: 0 }));
  const client = new grpc.Client(new URL(url).host, grpc.credentials.createInsecure());
  t.after(() => client.close());
  for (const path of ["metrics.v1.MetricsService", "logs.v1.LogsService"]) {
    const answer = await new Promise<Buffer | undefined>((resolve, reject) =>
      client.makeUnaryRequest(
        `/opentelemetry.proto.collector.${path}/Export`,
        (request: Buffer) => request,
        (response: Buffer) => response,
        Buffer.alloc(100_000),
        (error, response) => (error ? reject(error) : resolve(response)),
      ),
    );
    assert.equal(answer?.length, 0);
  }
  for (const path of ["/v1/metrics", "/v1/logs"]) {
    for (const [type, expected] of [
      ["application/json", "{}"],
      ["application/x-protobuf", ""],
    ] as const) {
      const response = await fetch(url + path, {
        method: "POST",
        headers: { "content-type": type },
        body: "{}".repeat(50_000),
      });
      assert.deepEqual(
        [response.status, response.headers.get("content-type"), await response.text()],
        [200, type, expected],
      );
    }
    assert.equal((await fetch(url + path)).status, 404);
  }
});
