import assert from "node:assert/strict";
import { test } from "node:test";
import { ROOT_CONTEXT, SpanKind, SpanStatusCode } from "@opentelemetry/api";
import { createSpanCollector } from "../../../src/trace/telemetry/collectors.js";
import { testTelemetry } from "../../support/telemetry.js";

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
