import assert from "node:assert/strict";
import { createServer } from "node:http";
import { type TestContext, test } from "node:test";
import { createNoopMeter, ROOT_CONTEXT } from "@opentelemetry/api";
import { withSpan } from "../../../src/trace/span-scope.js";
import { createTelemetry, type TelemetryOptions } from "../../../src/trace/telemetry/telemetry.js";
import { createFakeClock } from "../../support/fake-clock.js";
import { listenOnLoopback } from "../../support/listen-on-loopback.js";
import { startOtlpReceiver } from "../../support/otlp-receiver.js";

/** Telemetry of one service, ended after the test, with the lines of its log. */
function setUp(t: TestContext, environment: Record<string, string>, options: Partial<TelemetryOptions> = {}) {
  const lines: string[] = [];
  const log = { warn: (_: object, message: string) => void lines.push(message) };
  const telemetry = createTelemetry({ serviceName: "worker", environment, log, ...options });
  t.after(() => telemetry.shutdown());
  return { ...telemetry, lines };
}

async function receiver(t: TestContext, options: Parameters<typeof startOtlpReceiver>[0] = {}) {
  const started = await startOtlpReceiver(options);
  t.after(() => started.stop());
  return started;
}

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`third-party receiver gets metrics by ${protocol} at each interval and at shutdown`, async (t) => {
    const collector = await receiver(t, { protocol });
    const { meter, tracer, shutdown, lines } = setUp(t, {
      OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_METRIC_EXPORT_INTERVAL: "2000",
      OTEL_RESOURCE_ATTRIBUTES: "team=a",
    });
    const images = meter.createCounter("images", { unit: "{image}" });
    images.add(2, { kind: "round" });
    meter.createHistogram("wait", { unit: "s" }).record(1.5);
    await withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {});
    const imageCount = (points: readonly { name: string; value: number }[]) =>
      points.find(({ name }) => name === "images")?.value;
    const first = await collector.waitForMetrics((points) => imageCount(points) === 2);
    assert.deepEqual(
      first.filter(({ name }) => name === "images" || name === "wait"),
      [
        {
          service: "worker",
          name: "images",
          unit: "{image}",
          kind: "sum",
          temporality: "AGGREGATION_TEMPORALITY_CUMULATIVE",
          attributes: { kind: "round" },
          value: 2,
          sum: 0,
        },
        {
          service: "worker",
          name: "wait",
          unit: "s",
          kind: "histogram",
          temporality: "AGGREGATION_TEMPORALITY_CUMULATIVE",
          attributes: {},
          value: 1,
          sum: 1.5,
        },
      ],
    );
    const names = new Set(first.map(({ name }) => name));
    for (const name of ["process.memory.usage", "process.cpu.time", "nodejs.eventloop.utilization"]) {
      assert.ok(names.has(name), name);
    }
    await collector.waitForMetrics((points) => points.some(({ name }) => name === "nodejs.eventloop.delay.p99"));
    images.add(1, { kind: "round" });
    await shutdown();
    assert.equal(imageCount(collector.metrics.at(-1) ?? []), 3, "the last numbers leave with the shutdown");
    assert.deepEqual(lines, []);
  });

  test(`backend that rejects metrics by ${protocol} is reported once, and still gets traces`, async (t) => {
    const backend = await receiver(t, { protocol, takesMetrics: false });
    const { tracer, shutdown, lines } = setUp(t, {
      OTEL_EXPORTER_OTLP_ENDPOINT: backend.endpoint,
      OTEL_EXPORTER_OTLP_PROTOCOL: protocol,
      OTEL_METRIC_EXPORT_INTERVAL: "1000",
    });
    await withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {});
    await backend.waitForMetrics(() => backend.metrics.length >= 3);
    await shutdown();
    assert.deepEqual(lines, ["metrics could not be exported"]);
    assert.deepEqual(
      backend.spans().map(({ name }) => name),
      ["work"],
    );
  });
}

test("metrics rejected by a collector are reported once", async (t) => {
  const server = createServer((incoming, response) => {
    // partial_success { rejected_data_points: 2, error_message: "old" }
    const body = Buffer.from([0x0a, 7, 0x08, 2, 0x12, 3, ...Buffer.from("old")]);
    incoming.resume().on("end", () => response.end(body));
  });
  const { url } = await listenOnLoopback(t, server);
  const reasons: unknown[] = [];
  const telemetry = createTelemetry({
    serviceName: "worker",
    environment: {
      OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: `${url}/v1/metrics`,
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    },
    log: { warn: ({ reason, lostDataPoints }) => void reasons.push([reason, lostDataPoints]) },
  });
  await telemetry.shutdown();
  assert.deepEqual(reasons, [["rejected by the collector: old", 2]]);
});

test("delta metrics count from the last export", async (t) => {
  const collector = await receiver(t);
  const { meter, shutdown } = setUp(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint,
    OTEL_METRIC_EXPORT_INTERVAL: "2000",
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "delta",
  });
  const images = meter.createCounter("images");
  images.add(2);
  await collector.waitForMetrics((points) => points.some(({ name }) => name === "images"));
  images.add(1);
  await shutdown();
  const seen = collector.metrics.flat().filter(({ name }) => name === "images");
  assert.deepEqual(
    seen.map(({ value }) => value).filter((value) => value > 0),
    [2, 1],
  );
  assert.ok(seen.every(({ temporality }) => temporality === "AGGREGATION_TEMPORALITY_DELTA"));
});

test("spans lost to a permanent collector outage are counted by reason", async (t) => {
  const clock = createFakeClock();
  const { tracer, prometheus, lines } = setUp(
    t,
    {
      OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://127.0.0.1:1",
      OTEL_BSP_SCHEDULE_DELAY: "1",
      OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "10",
      THROUGHLINE_RETRY_QUEUE_SPANS: "20",
    },
    { clock, prometheusPort: 0 },
  );
  assert.ok(prometheus);
  const read = async () => {
    const text = await prometheus.scrape();
    const number = (series: string) => Number(new RegExp(`^${series} (\\S+)$`, "m").exec(text)?.[1]);
    return {
      exported: number("otel_sdk_exporter_span_exported_total"),
      waiting: number("otel_sdk_exporter_span_inflight"),
      dropped: number('otel_sdk_exporter_span_exported_total\\{error_type="queue_full"\\}'),
      rejected: number('otel_sdk_exporter_span_exported_total\\{error_type="rejected"\\}'),
    };
  };
  assert.deepEqual(await read(), { exported: 0, waiting: 0, dropped: 0, rejected: 0 }, "zeros from the start");
  for (let i = 0; i < 100; i++) {
    await withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {});
  }
  let seen = await read();
  while (seen.dropped < 80) {
    clock.advance(60_000);
    await new Promise((resolve) => setImmediate(resolve));
    seen = await read();
  }
  assert.deepEqual(seen, { exported: 0, waiting: 20, dropped: 80, rejected: 0 });
  assert.ok(lines.includes("spans could not be exported"));
});

test("exported and rejected spans are counted", async (t) => {
  const collector = await receiver(t);
  const { tracer, prometheus } = setUp(
    t,
    { OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: collector.endpoint, OTEL_BSP_SCHEDULE_DELAY: "1" },
    { prometheusPort: 0 },
  );
  await withSpan(tracer, "work", { parent: ROOT_CONTEXT }, () => {});
  await collector.waitFor((spans) => spans.length === 1);
  let text = "";
  while (!text.includes("\notel_sdk_exporter_span_exported_total 1\n")) {
    // The collector has the span a moment before the exporter has its answer.
    await new Promise((resolve) => setImmediate(resolve));
    text = (await prometheus?.scrape()) ?? "";
  }
  assert.match(text, /^otel_sdk_exporter_span_inflight 0$/m);
});

const noop = createNoopMeter();
for (const [words, environment, prometheusPort] of [
  ["no exporter is configured", {}, undefined],
  ["OTEL_METRICS_EXPORTER=none", { OTEL_METRICS_EXPORTER: "none" }, undefined],
  ["OTEL_SDK_DISABLED", { OTEL_SDK_DISABLED: "true" }, 0],
  ["ENABLE_TRACING=false", { ENABLE_TRACING: "false" }, undefined],
] as const) {
  test(`metrics are neither measured nor exported: ${words}`, async (t) => {
    const collector = await receiver(t);
    const needed = words === "no exporter is configured" ? {} : { OTEL_EXPORTER_OTLP_ENDPOINT: collector.endpoint };
    const { meter, prometheus, shutdown } = setUp(t, { ...needed, ...environment }, { prometheusPort });
    assert.equal(meter.createCounter("images"), noop.createCounter("images"));
    assert.equal(prometheus, undefined);
    await shutdown();
    assert.deepEqual(collector.metrics, []);
  });
}

test("metrics work without tracing", async (t) => {
  const { meter, enabled, prometheus } = setUp(t, { ENABLE_TRACING: "false" }, { prometheusPort: 0 });
  meter.createCounter("images").add(1);
  assert.equal(enabled, false);
  assert.match((await prometheus?.scrape()) ?? "", /^images_total 1$/m);
});

test("scrape after shutdown is rejected", async (t) => {
  const { prometheus, shutdown } = setUp(t, {}, { prometheusPort: 0 });
  await shutdown();
  await assert.rejects(async () => prometheus?.scrape());
});
