import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { ROOT_CONTEXT, TraceFlags, trace } from "@opentelemetry/api";
import { tracing } from "@opentelemetry/sdk-node";
import type { ExportOutcome } from "../../../src/trace/telemetry/otlp-connection.js";
import { createRunningSpans } from "../../../src/trace/telemetry/running-spans.js";
import { createTelemetry } from "../../../src/trace/telemetry/telemetry.js";
import { createFakeClock } from "../../support/fake-clock.js";
import { startOtlpReceiver } from "../../support/otlp-receiver.js";

/** A tracer whose running spans go to a collector that a test plays. */
function setUp(answer: () => Promise<ExportOutcome> = async () => ({ kind: "delivered", rejected: 0, remark: "" })) {
  const clock = createFakeClock();
  const sent: string[] = [];
  let closes = 0;
  const processor = createRunningSpans({
    clock,
    connect: (timeoutMs) => ({
      timeoutMs,
      export(spans) {
        assert.ok(spans.every(({ ended }) => !ended));
        sent.push(spans.map(({ name, events }) => [name, ...events.map((event) => event.name)].join("+")).join(" "));
        return answer();
      },
      close: () => void closes++,
    }),
  });
  const provider = new tracing.BasicTracerProvider({ spanProcessors: [processor] });
  const advance = async (ms: number) => {
    clock.advance(ms);
    await turn();
  };
  return { clock, sent, advance, processor, tracer: provider.getTracer("test"), closes: () => closes };
}

test("span that runs for 100 ms is exported without an end, and an ended one is not", async () => {
  const { tracer, sent, advance, clock } = setUp();
  const slow = tracer.startSpan("slow");
  tracer.startSpan("quick").end();
  await advance(99);
  assert.deepEqual(sent, []);
  await advance(1);
  assert.deepEqual(sent, ["slow"]);
  await advance(1000);
  assert.deepEqual(sent, ["slow"], "nothing is new");
  slow.end();
  await advance(100);
  assert.deepEqual([sent, clock.due()], [["slow"], []], "nothing runs, and nothing is looked at");
});

test("running span is exported again for a new event, a new attribute and every 10 s", async () => {
  const { tracer, sent, advance } = setUp();
  const span = tracer.startSpan("diffusion");
  await advance(100);
  span.addEvent("text-encoding");
  span.addEvent("denoising");
  await advance(100);
  span.setAttribute("diffusion.seed", 7);
  await advance(100);
  assert.deepEqual(sent, ["diffusion", "diffusion+text-encoding+denoising", "diffusion+text-encoding+denoising"]);
  await advance(9_900);
  assert.equal(sent.length, 3);
  await advance(100);
  assert.equal(sent.length, 4, "so that the collector knows that it still runs");
});

test("unsampled running span is not exported", async () => {
  const { tracer, sent, advance, clock } = setUp();
  const parent = trace.setSpanContext(ROOT_CONTEXT, {
    traceId: "a".repeat(32),
    spanId: "b".repeat(16),
    traceFlags: TraceFlags.NONE,
  });
  tracer.startSpan("unsampled", {}, parent);
  await advance(100);
  assert.deepEqual([sent, clock.due()], [[], []]);
});

test("running spans have one export at a time, and a failed one is not retried", async () => {
  let settle = (_outcome: ExportOutcome) => {};
  const { tracer, sent, advance } = setUp(() => new Promise((resolve) => (settle = resolve)));
  tracer.startSpan("one");
  await advance(100);
  tracer.startSpan("two");
  await advance(500);
  assert.deepEqual(sent, ["one"]);
  settle({ kind: "retry", reason: "away" });
  await turn();
  await advance(500);
  assert.deepEqual(sent, ["one", "two"]);
});

test("running spans are tracked up to a limit", async () => {
  const { tracer, sent, advance } = setUp();
  const spans = Array.from({ length: 3000 }, () => tracer.startSpan("s"));
  for (let i = 0; i < 10; i++) {
    await advance(100);
  }
  assert.deepEqual(
    sent.map((names) => names.split(" ").length),
    [512, 512, 512, 512],
  );
  for (const span of spans) {
    span.end();
  }
  tracer.startSpan("next");
  await advance(100);
  assert.equal(sent.at(-1), "next");
});

test("shutdown does not wait for running spans, and nothing is exported afterwards", async () => {
  const { tracer, sent, advance, processor, clock, closes } = setUp(() => new Promise(() => {}));
  tracer.startSpan("one");
  await advance(100);
  await processor.shutdown();
  tracer.startSpan("two");
  await advance(500);
  assert.deepEqual([sent, clock.due(), closes()], [["one"], [], 1]);
});

test("service exports a span as running and as ended when enabled, and otherwise as ended only", async (t) => {
  for (const [switchedOn, expected] of [
    ["true", ["work 0", "work ended"]],
    ["false", ["work ended"]],
  ] as const) {
    const receiver = await startOtlpReceiver();
    t.after(() => receiver.stop());
    const clock = createFakeClock();
    const telemetry = createTelemetry({
      serviceName: "image-pipeline",
      environment: { OTEL_EXPORTER_OTLP_ENDPOINT: receiver.endpoint, THROUGHLINE_RUNNING_SPANS: switchedOn },
      log: { warn: (_fields, message) => assert.fail(message) },
      clock,
    });
    const span = telemetry.tracer.startSpan("work");
    clock.advance(100);
    if (switchedOn === "true") {
      await receiver.waitFor(({ length }) => length === 1);
    }
    span.end();
    await telemetry.shutdown();
    const received = receiver.spans().map(({ name, endUnixNano }) => `${name} ${endUnixNano === 0n ? 0 : "ended"}`);
    assert.deepEqual(received, expected);
    assert.equal(new Set(receiver.spans().map(({ spanId }) => spanId)).size, 1);
  }
});
