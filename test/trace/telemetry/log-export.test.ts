import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { ROOT_CONTEXT } from "@opentelemetry/api";
import { observe } from "../../../src/app/observe.js";
import { withSpan } from "../../../src/trace/span-scope.js";
import { logRecordOfLine } from "../../../src/trace/telemetry/log-export.js";
import { type OtlpLogReceiver, startOtlpLogReceiver } from "../../support/otlp-log-receiver.js";
import { steadyPort } from "../../support/steady-port.js";

async function receiver(t: TestContext, protocol: "grpc" | "http/protobuf"): Promise<OtlpLogReceiver> {
  const started = await startOtlpLogReceiver(protocol);
  t.after(() => started.stop());
  return started;
}

function observed(t: TestContext, environment: Record<string, string>) {
  const lines: string[] = [];
  const made = observe({
    serviceName: "worker",
    environment: { OTEL_TRACES_EXPORTER: "none", OTEL_METRICS_EXPORTER: "none", ...environment },
    level: "trace",
    write: (line) => lines.push(line),
  });
  t.after(() => made.telemetry.shutdown());
  return { ...made, lines };
}

for (const protocol of ["grpc", "http/protobuf"] as const) {
  test(`third-party receiver gets log lines with their spans by ${protocol}`, async (t) => {
    const { endpoint, headers, waitFor } = await receiver(t, protocol);
    const { logger, telemetry, lines } = observed(t, {
      OTEL_LOGS_EXPORTER: "otlp",
      OTEL_EXPORTER_OTLP_LOGS_ENDPOINT: protocol === "grpc" ? endpoint : `${endpoint}/v1/logs`,
      OTEL_EXPORTER_OTLP_LOGS_PROTOCOL: protocol,
      OTEL_EXPORTER_OTLP_LOGS_HEADERS: "x-tenant=one",
      OTEL_BLRP_SCHEDULE_DELAY: "10",
    });
    const span = await withSpan(telemetry.tracer, "generation", { parent: ROOT_CONTEXT }, (active) => {
      logger.child({ app: "local/worker" }).info({ durationMs: 1.5, step: 3, last: false }, "generated");
      logger.error({ err: new RangeError("no room") }, "not kept");
      return active.spanContext();
    });
    logger.trace("afterwards");
    const records = await waitFor((all) => all.length === 3);
    const ids = { traceId: span.traceId, spanId: span.spanId, flags: 1 };
    assert.deepEqual(
      records.map(
        ({ timeUnixNano, attributes: { "exception.stacktrace": stack, ...attributes }, ...record }, index) => {
          const line = JSON.parse(lines[index] ?? "");
          assert.equal(timeUnixNano, BigInt(Date.parse(line.time)) * 1_000_000n);
          assert.equal(stack, line.err?.stack);
          return { ...record, attributes };
        },
      ),
      [
        {
          ...{ service: "worker", severityNumber: 9, severityText: "info", body: "generated", ...ids },
          attributes: { app: "local/worker", durationMs: 1.5, step: 3, last: false },
        },
        {
          ...{ service: "worker", severityNumber: 17, severityText: "error", body: "not kept", ...ids },
          attributes: { "exception.type": "RangeError", "exception.message": "no room" },
        },
        {
          ...{ service: "worker", severityNumber: 1, severityText: "trace", body: "afterwards" },
          ...{ traceId: "", spanId: "", flags: 0 },
          attributes: {},
        },
      ],
    );
    assert.equal(headers[0]?.["x-tenant"], "one");
  });
}

test("queued log records are exported at shutdown", async (t) => {
  const { endpoint, records } = await receiver(t, "grpc");
  const { logger, telemetry } = observed(t, { OTEL_LOGS_EXPORTER: "otlp", OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
  logger.info("the last words");
  await telemetry.shutdown();
  assert.deepEqual(
    records().map(({ body }) => body),
    ["the last words"],
  );
});

for (const environment of [
  {},
  { OTEL_LOGS_EXPORTER: "none" },
  { OTEL_LOGS_EXPORTER: "otlp", OTEL_SDK_DISABLED: "true" },
]) {
  test(`no log is exported with ${JSON.stringify(environment)}`, async (t) => {
    const { endpoint, records } = await receiver(t, "grpc");
    const { logger, telemetry } = observed(t, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, ...environment });
    logger.error("for stderr alone");
    await telemetry.shutdown();
    assert.deepEqual(records(), []);
  });
}

test("log is exported with tracing off when enabled", async (t) => {
  const { endpoint, records } = await receiver(t, "grpc");
  const { logger, telemetry } = observed(t, {
    OTEL_LOGS_EXPORTER: "otlp",
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    ENABLE_TRACING: "false",
  });
  logger.warn("careful");
  await telemetry.shutdown();
  assert.deepEqual(
    records().map(({ body, traceId }) => [body, traceId]),
    [["careful", ""]],
  );
});

test("log records that cannot be exported are counted in one log line", async (t) => {
  const { logger, telemetry, lines } = observed(t, {
    OTEL_LOGS_EXPORTER: "otlp",
    OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${await steadyPort()}`,
  });
  logger.info("one");
  logger.info("two");
  await telemetry.shutdown();
  const failures = lines.map((line) => JSON.parse(line)).filter(({ msg }) => msg.includes("could not"));
  assert.deepEqual(
    failures.map(({ msg, lostLogRecords }) => [msg, lostLogRecords]),
    [["log records could not be exported", 2]],
  );
});

test("log line becomes a record of its fields, and text that is no JSON object becomes none", () => {
  for (const line of ["", "plain words", "null", "7", "[1]", '{"msg":']) {
    assert.equal(logRecordOfLine(line), undefined, line);
  }
  const bare = logRecordOfLine('{"level":30,"time":1700000000000,"trace_id":"x","span_id":"y","err":"broken"}');
  assert.deepEqual([bare?.severityNumber, bare?.severityText, bare?.timestamp, bare?.body], [0, "", undefined, ""]);
  assert.equal(bare?.context, ROOT_CONTEXT);
  assert.deepEqual(bare?.attributes, { "exception.message": "broken" });
});
