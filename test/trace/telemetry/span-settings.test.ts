import assert from "node:assert/strict";
import { test } from "node:test";
import {
  createVariableReader,
  type Environment,
  TelemetryConfigError,
} from "../../../src/trace/telemetry/environment.js";
import { readSpanSettings } from "../../../src/trace/telemetry/spans.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";

const endpoint = { OTEL_EXPORTER_OTLP_ENDPOINT: "http://localhost:4317" };

/** Settings of an environment in which everything makes sense. */
function settingsOf(environment: Environment) {
  return readSpanSettings(createVariableReader(environment, { warn: (_fields, message) => assert.fail(message) }));
}

const exporterOf = (environment: Environment) => settingsOf(environment)?.exporter;

test("defaults of the tracing settings", () => {
  assert.deepEqual(settingsOf({}), {
    exporter: undefined,
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

test("empty variable is unset, and surrounding white space is ignored", () => {
  const empty = {
    OTEL_EXPORTER_OTLP_ENDPOINT: " ",
    OTEL_TRACES_SAMPLER: "",
    OTEL_BSP_SCHEDULE_DELAY: "",
    ENABLE_TRACING: "",
  };
  assert.deepEqual(settingsOf(empty), settingsOf({}));
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

test("timeout may be below the maximum and not above it", () => {
  assert.equal(exporterOf({ ...endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: "500" })?.timeoutMs, 500);
  assert.equal(exporterOf({ ...endpoint, OTEL_EXPORTER_OTLP_TIMEOUT: "10000" })?.timeoutMs, 3000);
});

test("small queue makes small batches", () => {
  assert.equal(settingsOf({ OTEL_BSP_MAX_QUEUE_SIZE: "100" })?.batch.maxExportBatchSize, 100);
  const larger = { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "4096" };
  assert.equal(settingsOf(larger)?.batch.maxExportBatchSize, 2048, "a batch is no larger than the queue");
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
  test(`sampler with ${JSON.stringify(environment)}`, () => {
    assert.deepEqual(settingsOf(environment)?.sampler, sampler);
  });
}

for (const { variable, value, more } of [
  { variable: "ENABLE_TRACING", value: "maybe" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "not a url" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "ftp://collector" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "http://" },
  { variable: "OTEL_EXPORTER_OTLP_ENDPOINT", value: "http://c:99999" },
  {
    variable: "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    value: "c:4318",
    more: { OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf" },
  },
  { variable: "OTEL_EXPORTER_OTLP_CERTIFICATE", value: "/no/such/file.pem" },
  { variable: "THROUGHLINE_RETRY_QUEUE_SPANS", value: "511" },
  { variable: "THROUGHLINE_RETRY_QUEUE_SPANS", value: "100", more: { OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "101" } },
  { variable: "THROUGHLINE_RETRY_QUEUE_BYTES", value: "1000" },
]) {
  test(`service does not start with ${variable}=${value}`, () => {
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

for (const [variable, value] of [
  ["OTEL_TRACES_EXPORTER", "zipkin"],
  ["OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"],
  ["OTEL_EXPORTER_OTLP_TIMEOUT", "-1"],
  ["OTEL_EXPORTER_OTLP_TIMEOUT", "0"],
  ["OTEL_EXPORTER_OTLP_TIMEOUT", "3s"],
  ["OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"],
  ["OTEL_EXPORTER_OTLP_INSECURE", "si"],
  ["OTEL_TRACES_SAMPLER", "sometimes"],
  ["OTEL_TRACES_SAMPLER_ARG", "1.5"],
  ["OTEL_TRACES_SAMPLER_ARG", "half"],
  ["OTEL_SAMPLE_RATE", "10%"],
  ["OTEL_SAMPLE_RATE", "-0.1"],
  ["OTEL_BSP_SCHEDULE_DELAY", "-5"],
  ["OTEL_BSP_SCHEDULE_DELAY", "99999999999"],
  ["OTEL_BSP_EXPORT_TIMEOUT", "soon"],
  ["OTEL_BSP_MAX_QUEUE_SIZE", "0"],
  ["OTEL_BSP_MAX_QUEUE_SIZE", "1.5"],
] as const) {
  test(`${variable}=${value} is ignored with one warning`, async () => {
    const warnings: unknown[][] = [];
    const log = { warn: (fields: object, message: string) => void warnings.push([fields, message.split(":")[0]]) };
    const telemetry = createTelemetry({
      serviceName: "image-pipeline",
      environment: { ...endpoint, OTEL_METRICS_EXPORTER: "none", [variable]: value },
      log,
    });
    await telemetry.shutdown();
    assert.deepEqual(warnings, [[{ variable, value }, `${variable} is ignored`]]);
    const ignored = readSpanSettings(createVariableReader({ ...endpoint, [variable]: value }, log));
    assert.deepEqual(ignored, settingsOf(endpoint));
  });
}

test("enumerations are case-insensitive", () => {
  const settings = settingsOf({
    ...endpoint,
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "GRPC",
    OTEL_EXPORTER_OTLP_COMPRESSION: "Gzip",
    OTEL_TRACES_SAMPLER: "Always_Off",
  });
  assert.deepEqual(
    [settings?.exporter?.protocol, settings?.exporter?.compression, settings?.sampler],
    ["grpc", "gzip", { parentBased: false, ratio: 0 }],
  );
});

for (const value of ["secret", "=secret", "ok=1,secret", "key=%secret"]) {
  test(`invalid headers are rejected without being quoted: ${value}`, () => {
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
    test(`headers that cannot be sent are rejected without their value: ${protocol}, ${value}`, () => {
      const environment = { ...endpoint, OTEL_EXPORTER_OTLP_PROTOCOL: protocol, OTEL_EXPORTER_OTLP_HEADERS: value };
      assert.throws(
        () => createTelemetry({ serviceName: "image-pipeline", environment, log: { warn() {} } }),
        (error) => error instanceof TelemetryConfigError && !error.message.includes("secr"),
      );
    });
  }
}

test("invalid settings are ignored when tracing is off", () => {
  assert.equal(settingsOf({ ENABLE_TRACING: "off", OTEL_TRACES_SAMPLER: "sometimes" }), undefined);
});
