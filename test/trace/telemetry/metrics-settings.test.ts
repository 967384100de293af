import assert from "node:assert/strict";
import { test } from "node:test";
import { createVariableReader, type Environment } from "../../../src/trace/telemetry/environment.js";
import { readMetricsSettings } from "../../../src/trace/telemetry/metrics.js";
import { wantsTracing } from "../../../src/trace/telemetry/spans.js";

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:4317" };

/** Settings of an environment, and the variables that are ignored. */
function read(environment: Environment, prometheusPort?: number) {
  const ignored: unknown[] = [];
  const reader = createVariableReader(environment, { warn: ({ variable }) => void ignored.push(variable) });
  return { settings: readMetricsSettings(reader, wantsTracing(reader), prometheusPort), ignored };
}

function settingsOf(environment: Environment, prometheusPort?: number) {
  const { settings, ignored } = read(environment, prometheusPort);
  assert.deepEqual(ignored, []);
  return settings;
}

test("metrics are off without an endpoint and a Prometheus port", () => {
  assert.deepEqual(settingsOf({}), { otlp: undefined, prometheus: undefined });
});

test("metrics go to the OTLP endpoint with the specification's defaults", () => {
  assert.deepEqual(settingsOf(endpoint).otlp, {
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
    temporality: "cumulative",
  });
});

test("metrics have an endpoint, protocol, headers and interval of their own", () => {
  const { otlp } = settingsOf({
    ...endpoint,
    OTEL_EXPORTER_OTLP_HEADERS: "a=1,b=1",
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT: "https://metrics.example/push",
    OTEL_EXPORTER_OTLP_METRICS_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_METRICS_HEADERS: "b=2",
    OTEL_EXPORTER_OTLP_METRICS_TIMEOUT: "700",
    OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE: "LowMemory",
    OTEL_METRIC_EXPORT_INTERVAL: "5000",
    OTEL_METRIC_EXPORT_TIMEOUT: "600",
  });
  assert.equal(otlp?.exporter.url, "https://metrics.example/push");
  assert.deepEqual(otlp?.exporter.headers, { a: "1", b: "2" });
  assert.equal(otlp?.exporter.timeoutMs, 600, "the least of the two");
  assert.equal(otlp?.temporality, "lowmemory");
  assert.equal(otlp?.intervalMs, 5000);
  const byHttp = settingsOf({ ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" });
  assert.equal(byHttp.otlp?.exporter.url, "http://localhost:4317/v1/metrics");
  const onlyTraces = settingsOf({ OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "http://localhost:4317" });
  assert.equal(onlyTraces.otlp, undefined);
});

test("Prometheus port is enabled by the exporter's name or by the port", () => {
  const named = { ...endpoint, OTEL_METRICS_EXPORTER: "prometheus" };
  assert.deepEqual(settingsOf(named).prometheus, { host: undefined, port: 9464 });
  assert.equal(settingsOf(named).otlp, undefined);
  const placed = { ...named, OTEL_EXPORTER_PROMETHEUS_HOST: "::1", OTEL_EXPORTER_PROMETHEUS_PORT: "9000" };
  assert.deepEqual(settingsOf(placed).prometheus, { host: "::1", port: 9000 });
  assert.equal(settingsOf(placed, 0).prometheus?.port, 0);
  const both = settingsOf({ ...endpoint, OTEL_METRICS_EXPORTER: "otlp, prometheus" });
  assert.ok(both.otlp !== undefined && both.prometheus !== undefined);
  assert.deepEqual(settingsOf({ OTEL_METRICS_EXPORTER: "none" }, 1).prometheus, { host: undefined, port: 1 });
});

test("settings that turn metrics off differ from those that turn only tracing off", () => {
  assert.equal(settingsOf({ ...endpoint, OTEL_METRICS_EXPORTER: "none" }).otlp, undefined);
  assert.deepEqual(settingsOf({ ...endpoint, OTEL_SDK_DISABLED: "true", OTEL_METRICS_EXPORTER: "?" }, 9464), {
    otlp: undefined,
    prometheus: undefined,
  });
  const untraced = { ...endpoint, ENABLE_TRACING: "false" };
  assert.equal(settingsOf(untraced).otlp, undefined, "nothing is exported unless somebody says so");
  assert.ok(settingsOf({ ...untraced, OTEL_METRICS_EXPORTER: "otlp" }).otlp !== undefined);
  assert.ok(settingsOf({ ...endpoint, OTEL_TRACES_EXPORTER: "none" }).otlp !== undefined);
});

for (const [variable, value] of [
  ["OTEL_METRICS_EXPORTER", "console"],
  ["OTEL_METRICS_EXPORTER", "otlp,console"],
  ["OTEL_METRIC_EXPORT_INTERVAL", "0"],
  ["OTEL_METRIC_EXPORT_TIMEOUT", "soon"],
  ["OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"],
  ["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"],
  ["OTEL_EXPORTER_PROMETHEUS_PORT", "65536"],
] as const) {
  test(`${variable}=${value} is ignored`, () => {
    const more = variable === "OTEL_EXPORTER_PROMETHEUS_PORT" ? { OTEL_METRICS_EXPORTER: "prometheus" } : endpoint;
    const { settings, ignored } = read({ ...more, [variable]: value });
    assert.deepEqual(ignored, [variable]);
    assert.deepEqual(settings, settingsOf(more));
  });
}

test("none turns metrics off beside any other exporter", () => {
  assert.equal(settingsOf({ ...endpoint, OTEL_METRICS_EXPORTER: "otlp,none" }).otlp, undefined);
});
