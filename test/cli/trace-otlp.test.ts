import assert from "node:assert/strict";
import { suite, test } from "node:test";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { below, ended, root, runs, spans, traceId } from "../support/span-variety.js";
import { runInProcess } from "./support/run-in-process.js";
import { startCollector } from "./support/start-collector.js";

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
