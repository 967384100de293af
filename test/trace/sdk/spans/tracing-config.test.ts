import assert from "node:assert/strict";
import { test } from "node:test";
import { TelemetryConfigError } from "../../../../src/trace/sdk/environment-reader.js";
import { readTracingConfig } from "../../../../src/trace/sdk/spans/tracing-config.js";
import { createTelemetry } from "../../../../src/trace/sdk/telemetry.js";

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:4317" };

function exporterOf(environment: Record<string, string>) {
  const config = readTracingConfig(environment);
  assert.ok(config.enabled);
  return config.exporter;
}

test("the defaults", () => {
  assert.deepEqual(readTracingConfig({}), {
    enabled: true,
    exporter: undefined,
    rpcSpans: false,
    stageSpans: false,
    runningSpans: false,
    sampler: { parentBased: true, ratio: 1 },
    batch: { maxQueueSize: 2048, maxExportBatchSize: 512, scheduledDelayMillis: 5000, exportTimeoutMillis: 30_000 },
    retryQueue: { maxItems: 32_768, maxBytes: 67_108_864 },
  });
  assert.deepEqual(exporterOf(endpoint), {
    signal: "traces",
    protocol: "grpc",
    url: "http://localhost:4317",
    secure: false,
    headers: {},
    timeoutMs: 3000,
    compression: "none",
    tls: {},
  });
});

test("an empty variable is an absent one, and white space around a value does not count", () => {
  const empty = {
    OTEL_EXPORTER_OTLP_ENDPOINT: " ",
    OTEL_TRACES_SAMPLER: "",
    OTEL_BSP_SCHEDULE_DELAY: "",
    ENABLE_TRACING: "",
  };
  assert.deepEqual(readTracingConfig(empty), readTracingConfig({}));
  assert.equal(exporterOf({ OTEL_EXPORTER_OTLP_ENDPOINT: " http://localhost:4317 " })?.url, "http://localhost:4317");
});

for (const { value, grpc, http } of [
  {
    value: "http://c:4318",
    grpc: { url: "http://c:4318", secure: false },
    http: { url: "http://c:4318/v1/traces", secure: false },
  },
  { value: "https://c", grpc: { url: "https://c", secure: true }, http: { url: "https://c/v1/traces", secure: true } },
  {
    value: "http://c/otel/",
    grpc: { url: "http://c/otel/", secure: false },
    http: { url: "http://c/otel/v1/traces", secure: false },
  },
  { value: "c:4317", grpc: { url: "https://c:4317", secure: true }, http: undefined },
  { value: "unix:///run/c.sock", grpc: { url: "unix:///run/c.sock", secure: true }, http: undefined },
]) {
  test(`endpoint ${value}`, () => {
    const environment = { OTEL_EXPORTER_OTLP_ENDPOINT: value };
    const { url, secure } = exporterOf(environment) ?? {};
    assert.deepEqual({ url, secure }, grpc);
    const overHttp = () => exporterOf({ ...environment, OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" });
    if (http === undefined) {
      assert.throws(overHttp, /OTEL_EXPORTER_OTLP_ENDPOINT/);
    } else {
      const config = overHttp();
      assert.deepEqual({ url: config?.url, secure: config?.secure }, http);
    }
  });
}

test("a timeout may be shorter than the most, not longer", () => {
  assert.equal(exporterOf({ ...endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: "500" })?.timeoutMs, 500);
  assert.equal(exporterOf({ ...endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: "10000" })?.timeoutMs, 3000);
});

test("a small queue makes small batches", () => {
  const config = readTracingConfig({ OTEL_BSP_MAX_QUEUE_SIZE: "100" });
  assert.ok(config.enabled);
  assert.equal(config.batch.maxExportBatchSize, 100);
});

for (const { environment, sampler } of [
  { environment: { OTEL_SAMPLE_RATE: "0.25" }, sampler: { parentBased: true, ratio: 0.25 } },
  { environment: { OTEL_SAMPLE_RATE: "0" }, sampler: { parentBased: true, ratio: 0 } },
  // The specification's variable wins, with its own default for the share.
  {
    environment: { OTEL_SAMPLE_RATE: "0.25", OTEL_TRACES_SAMPLER: "traceidratio" },
    sampler: { parentBased: false, ratio: 1 },
  },
  {
    environment: {
      OTEL_SAMPLE_RATE: "0.25",
      OTEL_TRACES_SAMPLER: "parentbased_traceidratio",
      OTEL_TRACES_SAMPLER_ARG: "0.5",
    },
    sampler: { parentBased: true, ratio: 0.5 },
  },
  // Without a sampler the specification's share belongs to none.
  {
    environment: { OTEL_SAMPLE_RATE: "0.25", OTEL_TRACES_SAMPLER_ARG: "0.5" },
    sampler: { parentBased: true, ratio: 0.25 },
  },
]) {
  test(`sampling with ${JSON.stringify(environment)}`, () => {
    const config = readTracingConfig(environment);
    assert.ok(config.enabled);
    assert.deepEqual(config.sampler, sampler);
  });
}

const nonsense: { variable: string; value: string; more?: Record<string, string> }[] = [
  { variable: "ENABLE_TRACING", value: "maybe" },
  { variable: "OTEL_TRACES_EXPORTER", value: "zipkin" },
  { variable: "OTEL_EXPORTER_OTLP_PROTOCOL", value: "http/json" },
  { variable: "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", value: "GRPC" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "not a url" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "ftp://collector" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "http://" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "http://c:99999" },
  {
    variable: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    value: "c:4318",
    more: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" },
  },
  { variable: "OTEL_EXPORTER_OTLP_TIMEOUT", value: "-1" },
  { variable: "OTEL_EXPORTER_OTLP_TIMEOUT", value: "0" },
  { variable: "OTEL_EXPORTER_OTLP_TIMEOUT", value: "3s" },
  { variable: "OTEL_EXPORTER_OTLP_COMPRESSION", value: "zstd" },
  { variable: "OTEL_EXPORTER_OTLP_INSECURE", value: "si" },
  { variable: "OTEL_EXPORTER_OTLP_CERTIFICATE", value: "/no/such/file.pem" },
  { variable: "OTEL_TRACES_SAMPLER", value: "sometimes" },
  { variable: "OTEL_TRACES_SAMPLER_ARG", value: "1.5" },
  { variable: "OTEL_TRACES_SAMPLER_ARG", value: "half" },
  { variable: "OTEL_SAMPLE_RATE", value: "10%" },
  { variable: "OTEL_SAMPLE_RATE", value: "-0.1" },
  { variable: "THROUGHLINE_RETRY_QUEUE_SPANS", value: "511" },
  { variable: "THROUGHLINE_RETRY_QUEUE_SPANS", value: "100", more: { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "101" } },
  { variable: "THROUGHLINE_RETRY_QUEUE_BYTES", value: "1000" },
  { variable: "OTEL_BSP_SCHEDULE_DELAY", value: "-5" },
  { variable: "OTEL_BSP_SCHEDULE_DELAY", value: "99999999999" },
  { variable: "OTEL_BSP_EXPORT_TIMEOUT", value: "soon" },
  { variable: "OTEL_BSP_MAX_QUEUE_SIZE", value: "0" },
  { variable: "OTEL_BSP_MAX_QUEUE_SIZE", value: "1.5" },
  { variable: "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", value: "4096" },
];

for (const { variable, value, more } of nonsense) {
  test(`refused with its name and value: ${variable}=${value}`, () => {
    const environment = { ...more, [variable]: value };
    assert.throws(
      () => createTelemetry({ serviceName: "image-pipeline", environment, log: { warn() {} } }),
      (error) =>
        error instanceof TelemetryConfigError &&
        error.variable === variable &&
        error.message.includes(variable) &&
        error.message.includes(JSON.stringify(value)),
    );
  });
}

for (const value of ["secret", "=secret", "ok=1,secret", "key=%secret"]) {
  test(`headers are refused without being shown: ${value}`, () => {
    const environment = { ...endpoint, OTEL_EXPORTER_OTLP_HEADERS: value };
    assert.throws(
      () => createTelemetry({ serviceName: "image-pipeline", environment, log: { warn() {} } }),
      (error) =>
        error instanceof TelemetryConfigError &&
        error.variable === "OTEL_EXPORTER_OTLP_HEADERS" &&
        !error.message.includes("secret"),
    );
  });
}

for (const protocol of ["grpc", "http/protobuf"]) {
  for (const value of ["a key=secret", "key=secr%0Aet"]) {
    test(`headers that cannot be sent are refused without their value: ${protocol}, ${value}`, () => {
      const environment = { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_HEADERS: value };
      assert.throws(
        () => createTelemetry({ serviceName: "image-pipeline", environment, log: { warn() {} } }),
        (error) => error instanceof TelemetryConfigError && !error.message.includes("secr"),
      );
    });
  }
}

test("nonsense does not matter where tracing is off", () => {
  assert.deepEqual(readTracingConfig({ ENABLE_TRACING: "off", OTEL_TRACES_SAMPLER: "sometimes" }), {
    enabled: false,
  });
});
