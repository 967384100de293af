import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import { context, propagation, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace } from "@opentelemetry/api";
import { traceIdOf, withSpan } from "../../../src/trace/span-scope.js";
import { createSpanCollector } from "../../../src/trace/telemetry/collectors.js";
import { createTelemetry, type Telemetry } from "../../../src/trace/telemetry/telemetry.js";
import { dumpSpans, text } from "../../support/dump-spans.js";
import { type OtlpReceiver, startOtlpReceiver } from "../../support/otlp-receiver.js";
import { testTelemetry } from "../../support/telemetry.js";

async function receiver(t: TestContext, protocol: "grpc" | "http/protobuf"): Promise<OtlpReceiver> {
  const started = await startOtlpReceiver({ protocol });
  t.after(() => started.stop());
  return started;
}

function telemetry(t: TestContext, environment: Record<string, string>, serviceName = "image-pipeline"): Telemetry {
  const log = { warn: (fields: object, message: string) => t.diagnostic(`${message} ${JSON.stringify(fields)}`) };
  const made = createTelemetry({ serviceName, environment, log });
  t.after(() => made.shutdown());
  return made;
}

/** A request through two services. */
async function request(pipeline: Telemetry, worker: Telemetry) {
  await withSpan(pipeline.tracer, "image-pipeline", { parent: ROOT_CONTEXT, kind: SpanKind.SERVER }, (span, scope) => {
    span.setAttributes({ "prompt.length": 11, share: 0.5, ok: true });
    span.addEvent("stage", { step: 1 });
    return withSpan(worker.tracer, "inference", { parent: scope, kind: SpanKind.SERVER }, () => {});
  });
}

const expected = text`
  image-pipeline SERVER image-pipeline
      ok=true
      prompt.length=11
      share=0.5
      event stage step=1
    inference SERVER text-to-image-worker
`;

for (const protocol of ["grpc", "http/protobuf"] as const) {
  for (const compression of ["none", "gzip"]) {
    test(`spans of two services are exported by OTLP, ${protocol}, compression ${compression}`, async (t) => {
      const { endpoint, waitFor, exports } = await receiver(t, protocol);
      const environment = {
        ...(protocol === "grpc" ? {} : { OTEL_EXPORTER_OTLP_PROTOCOL: protocol }),
        OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
        OTEL_EXPORTER_OTLP_COMPRESSION: compression,
        OTEL_EXPORTER_OTLP_HEADERS: "X-Tenant=t1,x-key=secret%20value",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS: "x-tenant=t2",
        OTEL_RESOURCE_ATTRIBUTES: "deployment.environment=test,service.name=other",
        OTEL_SERVICE_NAME: "other",
      };
      const pipeline = telemetry(t, environment);
      const worker = telemetry(t, environment, "text-to-image-worker");
      await request(pipeline, worker);
      await Promise.all([pipeline.shutdown(), worker.shutdown()]);
      const spans = await waitFor((received) => received.length === 2);
      assert.equal(dumpSpans(spans), expected);
      for (const { headers, path } of exports) {
        assert.equal(headers["x-key"], "secret value");
        assert.equal(headers["x-tenant"], "t2");
        assert.equal(
          path,
          protocol === "grpc" ? "/opentelemetry.proto.collector.trace.v1.TraceService/Export" : "/v1/traces",
        );
      }
      for (const span of spans) {
        assert.equal(span.resource["deployment.environment"], "test");
        assert.equal(span.resource["telemetry.sdk.language"], "nodejs");
        assert.ok(span.startUnixNano > 0n && span.endUnixNano >= span.startUnixNano);
      }
    });
  }
}

test("variables for traces have priority, and the HTTP endpoint for traces is used unchanged", async (t) => {
  const { endpoint, waitFor, exports } = await receiver(t, "http/protobuf");
  const made = telemetry(t, {
    OTEL_EXPORTER_OTLP_PROTOCOL: "grpc",
    OTEL_EXPORTER_OTLP_TRACES_PROTOCOL: "http/protobuf",
    OTEL_EXPORTER_OTLP_ENDPOINT: "http://127.0.0.1:1",
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: `${endpoint}/custom`,
  });
  await withSpan(made.tracer, "work", { parent: ROOT_CONTEXT }, () => {});
  await made.shutdown();
  await waitFor((spans) => spans.length === 1);
  assert.equal(exports[0]?.path, "/custom");
});

test("endpoint without a scheme is plain text with INSECURE", async (t) => {
  const { endpoint, waitFor } = await receiver(t, "grpc");
  const made = telemetry(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint.replace("http://", ""),
    OTEL_EXPORTER_OTLP_INSECURE: "True",
  });
  await withSpan(made.tracer, "work", { parent: ROOT_CONTEXT }, () => {});
  await made.shutdown();
  await waitFor((spans) => spans.length === 1);
});

test("spans are exported after the schedule delay in batches of the configured size", async (t) => {
  const { endpoint, waitFor, exports } = await receiver(t, "grpc");
  const made = telemetry(t, {
    OTEL_EXPORTER_OTLP_ENDPOINT: endpoint,
    OTEL_BSP_SCHEDULE_DELAY: "1",
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE: "2",
  });
  for (let i = 0; i < 5; i++) {
    made.tracer.startSpan(`span ${i}`).end();
  }
  await waitFor((spans) => spans.length === 5);
  assert.ok(exports.every(({ spans }) => spans.length <= 2));
  assert.ok(exports.length >= 3);
});

test("spans beyond the queue limit are dropped", async (t) => {
  const { endpoint, waitFor } = await receiver(t, "grpc");
  const made = telemetry(t, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_BSP_MAX_QUEUE_SIZE: "3" });
  for (let i = 0; i < 10; i++) {
    made.tracer.startSpan(`span ${i}`).end();
  }
  await made.shutdown();
  // Three are on their way, three wait in the queue, and four find no place.
  const spans = await waitFor((received) => received.length === 6);
  assert.deepEqual(
    spans.map(({ name }) => name),
    [0, 1, 2, 3, 4, 5].map((i) => `span ${i}`),
  );
});

const remoteParent = (sampled: boolean) =>
  trace.setSpanContext(ROOT_CONTEXT, {
    traceId: "1".repeat(32),
    spanId: "2".repeat(16),
    traceFlags: sampled ? 1 : 0,
    isRemote: true,
  });

for (const { sampler, arg, root, sampledParent, unsampledParent } of [
  { sampler: "", arg: "", root: true, sampledParent: true, unsampledParent: false },
  { sampler: "always_on", arg: "", root: true, sampledParent: true, unsampledParent: true },
  { sampler: "always_off", arg: "", root: false, sampledParent: false, unsampledParent: false },
  { sampler: "parentbased_always_on", arg: "", root: true, sampledParent: true, unsampledParent: false },
  { sampler: "parentbased_always_off", arg: "", root: false, sampledParent: true, unsampledParent: false },
  { sampler: "traceidratio", arg: "0", root: false, sampledParent: false, unsampledParent: false },
  { sampler: "traceidratio", arg: "1", root: true, sampledParent: true, unsampledParent: true },
  { sampler: "traceidratio", arg: "", root: true, sampledParent: true, unsampledParent: true },
  { sampler: "parentbased_traceidratio", arg: "0", root: false, sampledParent: true, unsampledParent: false },
]) {
  test(`sampler ${sampler || "by default"} ${arg}`, (t) => {
    const { tracer } = telemetry(t, { OTEL_TRACES_SAMPLER: sampler, OTEL_TRACES_SAMPLER_ARG: arg });
    const isSampled = (parent: typeof ROOT_CONTEXT) => {
      const span = tracer.startSpan("work", {}, parent);
      span.end();
      assert.match(traceIdOf(trace.setSpan(parent, span)), /^[0-9a-f]{32}$/);
      return span.spanContext().traceFlags === 1;
    };
    assert.equal(isSampled(ROOT_CONTEXT), root);
    assert.equal(isSampled(remoteParent(true)), sampledParent);
    assert.equal(isSampled(remoteParent(false)), unsampledParent);
  });
}

test("ratio of 0.5 samples about half of the traces", (t) => {
  const { tracer } = telemetry(t, { OTEL_TRACES_SAMPLER: "traceidratio", OTEL_TRACES_SAMPLER_ARG: "0.5" });
  const sampled = Array.from({ length: 2000 }, () => tracer.startSpan("work").spanContext().traceFlags === 1);
  const count = sampled.filter(Boolean).length;
  // 2,000 fair coins: beyond these bounds once in 10^18 runs.
  assert.ok(count > 800 && count < 1200, `${count} of 2000`);
});

test("without an endpoint spans and trace ids exist and nothing is exported", async (t) => {
  const made = telemetry(t, {});
  await withSpan(made.tracer, "work", { parent: ROOT_CONTEXT }, (span) => assert.ok(span.isRecording()));
  assert.equal(made.enabled, true);
});

test("OTEL_TRACES_EXPORTER=none exports nothing to a configured endpoint", async (t) => {
  const { endpoint, spans } = await receiver(t, "grpc");
  const made = telemetry(t, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint, OTEL_TRACES_EXPORTER: "none" });
  await withSpan(made.tracer, "work", { parent: ROOT_CONTEXT }, () => {});
  await made.shutdown();
  assert.deepEqual(spans(), []);
});

for (const environment of [
  { ENABLE_TRACING: "false" },
  { ENABLE_TRACING: "0" },
  { ENABLE_TRACING: "No" },
  { OTEL_SDK_DISABLED: "true" },
  { OTEL_SDK_DISABLED: "TRUE", ENABLE_TRACING: "true" },
]) {
  test(`tracing off by ${JSON.stringify(environment)}: no span, no trace id, no export`, async (t) => {
    const { endpoint, spans } = await receiver(t, "grpc");
    const made = telemetry(t, { ...environment, OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
    assert.equal(made.enabled, false);
    const result = await withSpan(made.tracer, "work", { parent: ROOT_CONTEXT }, (span, scope) => {
      assert.equal(span.isRecording(), false);
      assert.equal(traceIdOf(scope), "");
      return 42;
    });
    assert.equal(result, 42);
    await made.shutdown();
    assert.deepEqual(spans(), []);
  });
}

for (const environment of [{}, { ENABLE_TRACING: "yes" }, { ENABLE_TRACING: "" }, { OTEL_SDK_DISABLED: "false" }]) {
  test(`tracing on with ${JSON.stringify(environment)}`, (t) => assert.equal(telemetry(t, environment).enabled, true));
}

test("telemetry registers no global tracer provider or propagator, and one context manager", async (t) => {
  telemetry(t, {});
  telemetry(t, {});
  assert.equal(trace.getTracer("any").startSpan("work").isRecording(), false);
  assert.deepEqual(propagation.fields(), []);
  const scope = remoteParent(true);
  await context.with(scope, async () => {
    await Promise.resolve();
    assert.equal(context.active(), scope);
  });
});

test("collector returns a span as plain data", (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  const link = { traceId: "1".repeat(32), spanId: "2".repeat(16), traceFlags: 1 };
  const span = tracer.startSpan(
    "work",
    { kind: SpanKind.CLIENT, startTime: [1_760_000_000, 5], links: [{ context: link, attributes: { l: 1 } }] },
    ROOT_CONTEXT,
  );
  span.setAttribute("a", "x").addEvent("stage", { e: 1 }, [1_760_000_001, 6]);
  span.setStatus({ code: SpanStatusCode.ERROR, message: "INTERNAL" }).end([1_760_000_002, 7]);
  const [record] = collector.spans();
  assert.ok(record);
  const { resource, ...rest } = record;
  assert.deepEqual(rest, {
    traceId: span.spanContext().traceId,
    spanId: span.spanContext().spanId,
    parentSpanId: "",
    traceState: "",
    name: "work",
    kind: "CLIENT",
    service: "image-pipeline",
    startUnixNano: 1_760_000_000_000_000_005n,
    endUnixNano: 1_760_000_002_000_000_007n,
    attributes: { a: "x" },
    events: [{ name: "stage", timeUnixNano: 1_760_000_001_000_000_006n, attributes: { e: 1 } }],
    links: [{ traceId: link.traceId, spanId: link.spanId, attributes: { l: 1 } }],
    status: { code: "ERROR", message: "INTERNAL" },
  });
  assert.equal(resource["service.name"], "image-pipeline");
});

test("waitFor ends with the awaited span or with the signal's reason", async (t) => {
  const { tracer, collector } = testTelemetry(t, "image-pipeline");
  const leaving = new AbortController();
  const waiting = collector.waitFor((spans) => spans.some(({ name }) => name === "two"), leaving.signal);
  tracer.startSpan("one").end();
  tracer.startSpan("two").end();
  assert.equal((await waiting).length, 2);
  const never = collector.waitFor(() => false, leaving.signal);
  leaving.abort(new Error("enough"));
  await assert.rejects(never, /enough/);
  await assert.rejects(
    collector.waitFor(() => true, leaving.signal),
    /enough/,
  );
  collector.clear();
  assert.deepEqual(collector.spans(), []);
  assert.deepEqual(createSpanCollector().spans(), []);
});
