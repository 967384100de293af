import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { ProxyTracerProvider, trace } from "@opentelemetry/api";
import { metrics } from "@opentelemetry/sdk-node";
import { testTelemetry } from "../support/telemetry.js";
import { pingMesh } from "./ping-mesh.js";

/** Metrics that are read when the test asks. */
function testMetrics(t: TestContext) {
  const reader = new metrics.PeriodicExportingMetricReader({
    exporter: new metrics.InMemoryMetricExporter(metrics.AggregationTemporality.CUMULATIVE),
    exportIntervalMillis: 2 ** 30,
  });
  const meterProvider = new metrics.MeterProvider({ readers: [reader] });
  t.after(() => meterProvider.shutdown());
  return {
    meterProvider,
    async all() {
      const { resourceMetrics } = await reader.collect();
      return resourceMetrics.scopeMetrics.flatMap(({ scope, metrics: found }) =>
        found.map((metric) => ({ scope: scope.name, ...metric })),
      );
    },
    /** `name unit count attributes`, one line a series. */
    async lines() {
      return (await this.all())
        .flatMap(({ descriptor, dataPoints }) =>
          dataPoints.map(({ attributes, value }) => {
            assert.ok(typeof value === "object" && "count" in value);
            const { "server.port": _port, ...stable } = attributes;
            const pairs = Object.entries(stable).map(([key, attribute]) => `${key}=${String(attribute)}`);
            return [descriptor.name, descriptor.unit, value.count, ...pairs.sort()].join(" ");
          }),
        )
        .sort();
    },
  };
}

test("each call is measured once at each end, by method and code", async (t) => {
  const seen = testMetrics(t);
  const { meterProvider } = seen;
  let code: Code | undefined;
  const mesh = await pingMesh(
    t,
    {
      unary() {
        if (code !== undefined) {
          throw new ConnectError("no", code);
        }
        return {};
      },
      async *serverStream() {
        yield {};
        yield {};
      },
    },
    { wire: "grpc", client: { meterProvider }, server: { meterProvider } },
  );
  await mesh.client.unary({});
  await mesh.client.unary({});
  for (code of [Code.NotFound, Code.Internal]) {
    await assert.rejects(mesh.client.unary({}));
  }
  for await (const _message of mesh.client.serverStream({})) {
  }
  await mesh.collector.waitFor((spans) => spans.length >= 10, AbortSignal.timeout(30_000));

  const method = "rpc.method=test.v1.PingService";
  const there = "rpc.system.name=grpc server.address=127.0.0.1";
  assert.deepEqual(await seen.lines(), [
    `rpc.client.call.duration s 1 error.type=INTERNAL ${method}/Unary rpc.status_code=INTERNAL ${there}`,
    `rpc.client.call.duration s 1 error.type=NOT_FOUND ${method}/Unary rpc.status_code=NOT_FOUND ${there}`,
    `rpc.client.call.duration s 1 ${method}/ServerStream rpc.status_code=OK ${there}`,
    `rpc.client.call.duration s 2 ${method}/Unary rpc.status_code=OK ${there}`,
    `rpc.server.call.duration s 1 error.type=INTERNAL ${method}/Unary rpc.status_code=INTERNAL rpc.system.name=grpc`,
    `rpc.server.call.duration s 1 ${method}/ServerStream rpc.status_code=OK rpc.system.name=grpc`,
    `rpc.server.call.duration s 1 ${method}/Unary rpc.status_code=NOT_FOUND rpc.system.name=grpc`,
    `rpc.server.call.duration s 2 ${method}/Unary rpc.status_code=OK rpc.system.name=grpc`,
  ]);
});

test("metric has the convention's buckets in seconds and the module's scope", async (t) => {
  const seen = testMetrics(t);
  const mesh = await pingMesh(t, { unary: () => ({}) }, { server: { meterProvider: seen.meterProvider } });
  await mesh.client.unary({});
  const [metric, ...more] = await seen.all();
  assert.deepEqual(more, []);
  assert.equal(metric?.scope, "throughline/otelconnect");
  const value = metric?.dataPoints[0]?.value;
  assert.ok(typeof value === "object" && "buckets" in value);
  assert.deepEqual(
    value.buckets.boundaries,
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
  );
  const [span] = mesh.collector.spans();
  assert.ok(span !== undefined && value.sum !== undefined);
  const spanSeconds = Number(span.endUnixNano - span.startUnixNano) / 1e9;
  assert.ok(Math.abs(value.sum - spanSeconds) < 1, `${value.sum} s measured, ${spanSeconds} s on the span`);
});

test("calls are measured without tracing and sampling, and filters apply", async (t) => {
  const seen = testMetrics(t);
  const mesh = await pingMesh(
    t,
    {
      unary: () => ({}),
      async *serverStream() {
        yield {};
      },
    },
    {
      client: { filter: () => false },
      server: {
        meterProvider: seen.meterProvider,
        tracer: new ProxyTracerProvider().getTracer("none"),
        filter: ({ method }) => method.name === "ServerStream",
        attributeFilter: (key) => key !== "rpc.system.name",
      },
    },
  );
  await mesh.client.unary({});
  for await (const _message of mesh.client.serverStream({})) {
  }
  assert.deepEqual(mesh.collector.spans(), []);
  assert.deepEqual(await seen.lines(), ["rpc.server.call.duration s 1 rpc.method=test.v1.PingService/ServerStream"]);
});

test("calls with metrics only keep context, headers and links unchanged", async (t) => {
  const seen = testMetrics(t);
  const { meterProvider } = seen;
  const { tracer } = testTelemetry(t, "caller");
  const headers: (string | null)[] = [];
  const active: (string | undefined)[] = [];
  const mesh = await pingMesh(
    t,
    {
      unary(_request, call) {
        headers.push(call.requestHeader.get("traceparent"));
        active.push(trace.getActiveSpan()?.spanContext().traceId);
        return {};
      },
    },
    {
      wire: "grpc",
      client: { spans: false, meterProvider, metricAttributes: () => ({ "app.id": "test/ping" }) },
      server: { spans: false, meterProvider },
    },
  );
  await tracer.startActiveSpan("caller", async (span) => {
    await mesh.client.unary({});
    span.end();
  });
  assert.deepEqual([headers, active], [[null], [undefined]]);
  const method = "rpc.method=test.v1.PingService/Unary rpc.status_code=OK rpc.system.name=grpc";
  assert.deepEqual(await seen.lines(), [
    `rpc.client.call.duration s 1 app.id=test/ping ${method} server.address=127.0.0.1`,
    `rpc.server.call.duration s 1 ${method}`,
  ]);
});
