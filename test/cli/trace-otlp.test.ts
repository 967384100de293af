import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { makeSpan } from "../support/make-span.js";
import { runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

const traceId = "0af7651916cd43dd8448eb211c80319c";
const pipeline = { "service.name": "image-pipeline", "service.version": "1", "process.args": ["a", "b"] };
const worker = { "service.name": "worker", "host.cpus": 8 };
const root = makeSpan({
  traceId,
  name: "root",
  kind: "SERVER",
  endMs: 10,
  traceState: "vendor=1,other=2",
  attributes: {
    text: "x",
    empty: "",
    whole: 5,
    negative: -7,
    fraction: 0.5,
    huge: 1e300,
    "as.text": "9007199254740993",
    truth: true,
    texts: ["x", "y"],
    numbers: [1, 2.5],
    truths: [true, false],
    none: [],
  },
  links: [{ traceId: "1".repeat(32), spanId: "2".repeat(16), attributes: { why: "caller" } }],
  resource: pipeline,
});
const below = makeSpan({
  traceId,
  name: "below",
  kind: "CLIENT",
  service: "worker",
  parentSpanId: root.spanId,
  startMs: 5,
  endMs: 10,
  status: { code: "ERROR", message: "INTERNAL" },
  events: [
    { name: "denoising", timeUnixNano: root.startUnixNano + 7_000_001n, attributes: { step: 1 } },
    { name: "late", timeUnixNano: root.startUnixNano + 8_000_000n, attributes: {} },
  ],
  resource: worker,
});
const runs = {
  ...makeSpan({ traceId, name: "runs", kind: "PRODUCER", service: "worker", startMs: 6, resource: worker }),
  endUnixNano: 0n,
};
const ended = makeSpan({ traceId, name: "ended", kind: "CONSUMER", endMs: 1, status: { code: "OK", message: "" } });
const spans = [below, runs, ended, root];

const byId = (records: readonly SpanRecord[]) => records.toSorted((a, b) => (a.spanId < b.spanId ? -1 : 1));

suite("throughline trace --format otlp", () => {
  test("a collector that is sent the exported trace has the same spans", async (t) => {
    const [from, to] = [await startCollector(t, spans), await startCollector(t)];
    const { code, stdout } = await runInProcess(["trace", traceId, "--format", "otlp", "--collector", from.url]);
    assert.equal(code, 0);

    const headers = { "content-type": "application/json" };
    const response = await fetch(`${to.url}/v1/traces`, { method: "POST", headers, body: stdout });
    assert.deepEqual([response.status, await response.json()], [200, {}]);

    const service = { "service.name": "image-pipeline" };
    const sent = spans.map((span) => (span === ended ? { ...ended, resource: service } : span));
    const received = [...to.store.spansOf(traceId), ...to.store.runningSpansOf(traceId)];
    assert.deepEqual(byId(received), byId(sent));
    assert.equal(to.store.runningSpansOf(traceId).length, 1);
  });

  test("the export is OTLP's JSON: hexadecimal ids, 64-bit integers as text, numbers for enums", async (t) => {
    const { url } = await startCollector(t, [below, runs]);
    const { stdout } = await runInProcess(["trace", traceId, "--format", "otlp", "--collector", url]);
    assert.deepEqual(JSON.parse(stdout), {
      resourceSpans: [
        {
          resource: {
            attributes: [
              { key: "host.cpus", value: { intValue: "8" } },
              { key: "service.name", value: { stringValue: "worker" } },
            ],
          },
          scopeSpans: [
            {
              spans: [
                {
                  traceId,
                  spanId: below.spanId,
                  parentSpanId: root.spanId,
                  name: "below",
                  kind: 3,
                  startTimeUnixNano: "1760000000005000000",
                  endTimeUnixNano: "1760000000010000000",
                  attributes: [],
                  events: [
                    {
                      name: "denoising",
                      timeUnixNano: "1760000000007000001",
                      attributes: [{ key: "step", value: { intValue: "1" } }],
                    },
                    { name: "late", timeUnixNano: "1760000000008000000", attributes: [] },
                  ],
                  links: [],
                  status: { code: 2, message: "INTERNAL" },
                },
                {
                  traceId,
                  spanId: runs.spanId,
                  name: "runs",
                  kind: 4,
                  startTimeUnixNano: "1760000000006000000",
                  attributes: [],
                  events: [],
                  links: [],
                  status: { code: 0 },
                },
              ],
            },
          ],
        },
      ],
    });
  });

  test("--format json is --json, and another format beside --json is bad usage", async (t) => {
    const { url } = await startCollector(t, spans);
    const trace = (...flags: readonly string[]) => runInProcess(["trace", traceId, "--collector", url, ...flags]);
    const json = await trace("--json");
    assert.equal((await trace("--format", "json")).stdout, json.stdout);
    assert.equal((await trace("--format", "json", "--json")).stdout, json.stdout);
    assert.equal((await trace("--format", "tree")).stdout, (await trace()).stdout);
    const both = await trace("--format", "otlp", "--json");
    assert.deepEqual([both.code, both.message], [2, "--json excludes --format otlp"]);
    assert.equal((await trace("--format", "xml")).code, 2);
  });
});
