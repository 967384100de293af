import assert from "node:assert/strict";
import { test } from "node:test";
import * as grpc from "@grpc/grpc-js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createCollector } from "../../src/studio/collector.js";

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
