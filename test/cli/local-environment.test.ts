import assert from "node:assert/strict";
import { test } from "node:test";
import { localEnvironment } from "../../src/cli/services/local-system.js";

test("services of a local system make spans and use no other collector, whatever the shell sets", () => {
  const shell = {
    PATH: "/bin",
    OTEL_RESOURCE_ATTRIBUTES: "team=a",
    ENABLE_TRACING: "false",
    OTEL_SDK_DISABLED: "true",
    OTEL_TRACES_EXPORTER: "none",
    OTEL_METRICS_EXPORTER: "otlp,prometheus",
    OTEL_TRACES_SAMPLER: "always_off",
    OTEL_EXPORTER_OTLP_ENDPOINT: "https://elsewhere:4317",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: "https://elsewhere:4318/v1/traces",
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_HEADERS: "key=secret",
    OTEL_BSP_MAX_QUEUE_SIZE: "1",
    OTEL_SAMPLE_RATE: "0",
    OTEL_LOGS_EXPORTER: "console",
    OTEL_SERVICE_NAME: "mine",
    OTEL_PROPAGATORS: "b3",
    THROUGHLINE_WORKER_PORT: "1",
  };
  const expected = {
    PATH: "/bin",
    OTEL_RESOURCE_ATTRIBUTES: "team=a",
    ENABLE_TRACING: "true",
    OTEL_METRICS_EXPORTER: "none",
    THROUGHLINE_RUNNING_SPANS: "true",
    OTEL_BSP_SCHEDULE_DELAY: "200",
  };
  assert.deepEqual(localEnvironment(shell), expected);
  assert.deepEqual(localEnvironment({ ...shell, OTEL_BSP_SCHEDULE_DELAY: "50" }), {
    ...expected,
    OTEL_BSP_SCHEDULE_DELAY: "50",
  });
  for (const broken of ["=,x", "x=%zz", "x"]) {
    assert.equal(
      localEnvironment({ ...shell, OTEL_RESOURCE_ATTRIBUTES: broken })["OTEL_RESOURCE_ATTRIBUTES"],
      "",
      broken,
    );
  }
  for (const odd of ["soon", "-1", "1e3", ""]) {
    assert.deepEqual(localEnvironment({ ...shell, OTEL_BSP_SCHEDULE_DELAY: odd }), expected);
  }
});
