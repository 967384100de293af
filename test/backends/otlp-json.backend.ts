import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { runInProcess } from "../cli/support/run-in-process.js";
import { startCollector } from "../cli/support/start-collector.js";
import { dumpSpans } from "../support/dump-spans.js";
import { ended, runs, spans, traceId } from "../support/span-variety.js";
import type { StartBackend } from "./support/backend.js";
import { startJaeger } from "./support/jaeger.js";
import { startOtelCollector } from "./support/otel-collector.js";

/** Backends, and a span as their API returns it. */
const backends: Record<string, { readonly start: StartBackend; readonly returned: (span: SpanRecord) => SpanRecord }> =
  {
    Jaeger: { start: startJaeger, returned: asJaegerReturns },
    "the OpenTelemetry Collector": { start: startOtelCollector, returned: (span) => span },
  };

/** Jaeger's API returns lists as text, and no attributes of links. */
function asJaegerReturns(span: SpanRecord): SpanRecord {
  const attributes = Object.entries(span.attributes).map(([key, value]) => [
    key,
    Array.isArray(value) ? JSON.stringify(value) : value,
  ]);
  return {
    ...span,
    attributes: Object.fromEntries(attributes),
    links: span.links.map((link) => ({ ...link, attributes: {} })),
  };
}

/** A collector adds the service of a span without a resource; other backends may show a running span as one that ended in 1970. */
const sent = spans
  .filter((span) => span !== runs)
  .map((span) => (span === ended ? { ...ended, resource: { "service.name": ended.service } } : span));

for (const [name, { start, returned }] of Object.entries(backends)) {
  suite(`trace --format otlp, posted to ${name}`, () => {
    test("backend returns the trace as the local collector had it", async (t) => {
      const backend = await start(t);
      const { url } = await startCollector(t, sent);
      const { stdout } = await runInProcess(["trace", traceId, "--format", "otlp", "--collector", url]);
      const response = await fetch(`${backend.endpoints["http/protobuf"]}/v1/traces`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: stdout,
      });
      assert.equal(response.status, 200, await response.text());
      assert.equal(dumpSpans(await backend.trace(traceId, sent.length)), dumpSpans(sent.map(returned)));
    });
  });
}
