import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { HrTime } from "@opentelemetry/api";
import { JsonTraceSerializer, ProtobufTraceSerializer } from "@opentelemetry/otlp-transformer";
import { resources, tracing } from "@opentelemetry/sdk-node";
import { connectStudio } from "../../src/cli/commands/studio-client.js";
import { listen } from "../../src/mesh/port/listen.js";
import { createConnectHandler } from "../../src/mesh/serve/connect-handler.js";
import { createCollector } from "../../src/studio/collector.js";

/*
 * Spans that another SDK exports while they run: once at their start, and once at their end. Some write an end of 0, others none.
 */

/** A collector, seen through its own API. */
async function startCollector(t: TestContext) {
  const { routes, interceptors, httpHandler } = createCollector();
  const handler = createConnectHandler({ routes, interceptors, fallback: httpHandler });
  const listening = await listen({ handler, port: 0 });
  t.after(() => listening.stop({ graceMs: 0 }));
  const { studio } = connectStudio(listening.url);
  return {
    async post(contentType: string, body: string | Uint8Array) {
      const response = await fetch(`${listening.url}/v1/traces`, {
        method: "POST",
        headers: { "content-type": contentType },
        body,
      });
      assert.equal(response.status, 200, await response.text());
    },
    /** Name, end and attributes of each span. */
    async spansOf(traceId: string) {
      const spans: unknown[][] = [];
      for await (const batch of studio.watchTrace({ traceId, idleMs: 0 })) {
        for (const { name, endUnixNano, attributes } of batch.spans) {
          spans.push([name, endUnixNano, Object.keys(attributes).sort()]);
        }
      }
      return spans;
    },
    async summary(traceId: string) {
      const { traces } = await studio.listTraces({});
      const trace = traces.find((each) => each.traceId === traceId);
      return [trace?.name, trace?.service, trace?.running, trace?.spanCount];
    },
  };
}

/** A span of OpenTelemetry's SDK that runs. */
function startSpan(): tracing.Span {
  let started: tracing.Span | undefined;
  const provider = new tracing.BasicTracerProvider({
    resource: resources.resourceFromAttributes({ "service.name": "shop" }),
    spanProcessors: [
      {
        onStart(span) {
          started = span;
        },
        onEnd() {},
        forceFlush: async () => {},
        shutdown: async () => {},
      },
    ],
  });
  provider.getTracer("foreign").startSpan("GET /", { startTime: [1_760_000_000, 1] });
  return started ?? assert.fail("no span was started");
}

const unended: HrTime = [0, 0];

/** A copy as it is now, with an end of 0 while the span runs. */
function snapshot(span: tracing.ReadableSpan): tracing.ReadableSpan {
  const { name, kind, startTime, status, links, events, resource, instrumentationScope, ended } = span;
  return {
    name,
    kind,
    startTime,
    status,
    links,
    events,
    resource,
    instrumentationScope,
    ended,
    attributes: { ...span.attributes },
    spanContext: () => span.spanContext(),
    endTime: ended ? span.endTime : unended,
    duration: ended ? span.duration : unended,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}

const protobuf = (span: tracing.ReadableSpan) => Buffer.from(ProtobufTraceSerializer.serializeRequest([span]) ?? []);
const json = (span: tracing.ReadableSpan) => Buffer.from(JsonTraceSerializer.serializeRequest([span]) ?? []).toString();

for (const { what, contentType, write } of [
  { what: "Protobuf with an end of 0", contentType: "application/x-protobuf", write: protobuf },
  { what: "JSON with an end of 0", contentType: "application/json", write: json },
  {
    what: "JSON without an end",
    contentType: "application/json",
    write: (span: tracing.ReadableSpan) => json(span).replace(/,"endTimeUnixNano":"0"/, ""),
  },
]) {
  test(`collector takes a foreign span as running, and its end replaces it: ${what}`, async (t) => {
    const collector = await startCollector(t);
    const span = startSpan();
    const { traceId } = span.spanContext();
    span.setAttribute("early", 1);
    const running = write(snapshot(span));
    if (what === "JSON without an end") {
      assert.doesNotMatch(String(running), /endTimeUnixNano/);
    }

    await collector.post(contentType, running);
    assert.deepEqual(await collector.spansOf(traceId), [["GET /", 0n, ["early"]]]);
    assert.deepEqual(await collector.summary(traceId), ["GET /", "shop", true, 1]);

    span.setAttribute("late", 2);
    span.end([1_760_000_001, 2]);
    await collector.post(contentType, write(snapshot(span)));
    const ended = [["GET /", 1_760_000_001_000_000_002n, ["early", "late"]]];
    assert.deepEqual(await collector.spansOf(traceId), ended);
    assert.deepEqual(await collector.summary(traceId), ["GET /", "shop", false, 1]);

    await collector.post(contentType, running);
    assert.deepEqual(await collector.spansOf(traceId), ended, "a running copy that comes late changes nothing");
  });
}
