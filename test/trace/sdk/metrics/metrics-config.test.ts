import assert from "node:assert/strict";
import { test } from "node:test";
import { TelemetryConfigError } from "../../../../src/trace/sdk/environment-reader.js";
import { readMetricsConfig } from "../../../../src/trace/sdk/metrics/metrics-config.js";

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:4317" };

test("without an endpoint, and without a port for Prometheus, there are no metrics", () => {
  assert.deepEqual(readMetricsConfig({}), { otlp: undefined, prometheus: undefined });
});

test("metrics go where the endpoint is, by the specification's defaults", () => {
  assert.deepEqual(readMetricsConfig(endpoint).otlp, {
    exporter: {
      signal: "metrics",
      protocol: "grpc",
      url: "http://localhost:4317",
      secure: false,
      headers: {},
      timeoutMs: 3000,
      compression: "none",
      tls: {},
    },
    intervalMs: 60_000,
    timeoutMs: 30_000,
    temporality: "cumulative",
  });
});

test("metrics have an endpoint, a protocol, headers and a schedule of their own", () => {
  const { otlp } = readMetricsConfig({
    ...endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: "a=1,b=1",
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "https://metrics.example/push",
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: "b=2",
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "700",
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "LowMemory",
    OTEL_METRIC_EXPORT_INTERVAL: "5000",
  });
  assert.equal(otlp?.exporter.url, "https://metrics.example/push");
  assert.deepEqual(otlp?.exporter.headers, { a: "1", b: "2" });
  assert.equal(otlp?.exporter.timeoutMs, 700);
  assert.equal(otlp?.temporality, "lowmemory");
  assert.deepEqual([otlp?.intervalMs, otlp?.timeoutMs], [5000, 5000], "an export is over before the next one");
  const byHttp = readMetricsConfig({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" });
  assert.equal(byHttp.otlp?.exporter.url, "http://localhost:4317/v1/metrics");
  const onlyTraces = readMetricsConfig({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://localhost:4317" });
  assert.equal(onlyTraces.otlp, undefined);
});

test("a port for Prometheus is wanted by the exporter's name or by the port", () => {
  const named = { ...endpoint, OTEL_METRICS_EXPORTER: "prometheus" };
  assert.deepEqual(readMetricsConfig(named).prometheus, { host: undefined, port: 9464 });
  assert.equal(readMetricsConfig(named).otlp, undefined);
  const placed = { ...named, OTEL_EXPORTER_PROMETHEUS_HOST: "::1", OTEL_EXPORTER_PROMETHEUS_PORT: "9000" };
  assert.deepEqual(readMetricsConfig(placed).prometheus, { host: "::1", port: 9000 });
  assert.equal(readMetricsConfig(placed, 0).prometheus?.port, 0);
  const both = readMetricsConfig({ ...endpoint, OTEL_METRICS_EXPORTER: "otlp, prometheus" });
  assert.ok(both.otlp !== undefined && both.prometheus !== undefined);
  assert.deepEqual(readMetricsConfig({ OTEL_METRICS_EXPORTER: "none" }, 1).prometheus, { host: undefined, port: 1 });
});

test("what switches metrics off, and what only tracing", () => {
  assert.equal(readMetricsConfig({ ...endpoint, OTEL_METRICS_EXPORTER: "none" }).otlp, undefined);
  assert.deepEqual(readMetricsConfig({ ...endpoint, OTEL_SDK_DISABLED: "true", OTEL_METRICS_EXPORTER: "?" }, 9464), {
    otlp: undefined,
    prometheus: undefined,
  });
  const untraced = { ...endpoint, ENABLE_TRACING: "false" };
  assert.equal(readMetricsConfig(untraced).otlp, undefined, "nothing is exported unless somebody says so");
  assert.ok(readMetricsConfig({ ...untraced, OTEL_METRICS_EXPORTER: "otlp" }).otlp !== undefined);
  assert.ok(readMetricsConfig({ ...endpoint, OTEL_TRACES_EXPORTER: "none" }).otlp !== undefined);
});

for (const [variable, value] of [
  ["OTEL_METRICS_EXPORTER", "console"],
  ["OTEL_METRICS_EXPORTER", "otlp,none"],
  ["OTEL_METRIC_EXPORT_INTERVAL", "0"],
  ["OTEL_METRIC_EXPORT_TIMEOUT", "soon"],
  ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"],
  ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"],
  ["OTEL_EXPORTER_PROMETHEUS_PORT", "65536"],
] as const) {
  test(`refused with its name and value: ${variable}=${value}`, () => {
    const more = variable === "OTEL_EXPORTER_PROMETHEUS_PORT" ? { OTEL_METRICS_EXPORTER: "prometheus" } : endpoint;
    assert.throws(
      () => readMetricsConfig({ ...more, [variable]: value }),
      (error) =>
        error instanceof TelemetryConfigError &&
        error.variable === variable &&
        error.message.includes(JSON.stringify(value)),
    );
  });
}
