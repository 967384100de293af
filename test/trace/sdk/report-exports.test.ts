import assert from "node:assert/strict";
import { test } from "node:test";
import { core, type tracing } from "@opentelemetry/sdk-node";
import pino from "pino";
import { reportExports } from "../../../src/trace/sdk/report-exports.js";

/** An exporter whose result is set from outside. */
function fakeExporter() {
  const fake = {
    error: undefined as Error | undefined,
    export(_spans: tracing.ReadableSpan[], settle: (result: core.ExportResult) => void) {
      const { FAILED, SUCCESS } = core.ExportResultCode;
      settle(fake.error ? { code: FAILED, error: fake.error } : { code: SUCCESS });
    },
    shutdown: () => Promise.resolve(),
  };
  return fake;
}

const spans = (count: number): tracing.ReadableSpan[] => Array(count);

test("failures are told at once, then once in an interval with what was lost since; success is silent", () => {
  const lines: [object, string][] = [];
  const exporter = fakeExporter();
  let now = 0;
  const reported = reportExports({
    exporter,
    log: { warn: (fields, message) => lines.push([fields, message]) },
    intervalMs: 1000,
    now: () => now,
  });
  const results: number[] = [];
  const exportSpans = (count: number) => reported.export(spans(count), ({ code }) => results.push(code));
  exportSpans(1);
  assert.deepEqual(lines, []);

  exporter.error = new Error("14 UNAVAILABLE:\n no connection");
  exportSpans(2);
  for (now of [10, 500, 999]) {
    exportSpans(3);
  }
  now = 1000;
  exportSpans(4);
  assert.deepEqual(lines, [
    [{ lostSpans: 2, reason: "14 UNAVAILABLE: no connection" }, "spans could not be exported"],
    [{ lostSpans: 13, reason: "14 UNAVAILABLE: no connection" }, "spans could not be exported"],
  ]);
  assert.deepEqual(results, [0, 1, 1, 1, 1, 1], "the results go on as they are");
});

test("what a collector answers is cut", () => {
  const reasons: unknown[] = [];
  const exporter = fakeExporter();
  exporter.error = new Error("<html>".repeat(1000));
  reportExports({ exporter, log: { warn: ({ reason }) => reasons.push(reason) } }).export(spans(1), () => {});
  assert.equal(String(reasons[0]).length, 200);
});

test("a pino logger is a log", () => {
  const lines: string[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => lines.push(line) });
  const exporter = fakeExporter();
  exporter.error = new Error("refused");
  reportExports({ exporter, log }).export(spans(1), () => {});
  assert.deepEqual(JSON.parse(lines.join("")), {
    level: 40,
    lostSpans: 1,
    reason: "refused",
    msg: "spans could not be exported",
  });
});
