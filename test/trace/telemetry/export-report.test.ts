import assert from "node:assert/strict";
import { test } from "node:test";
import pino from "pino";
import { createExportReport, type ExportedKind } from "../../../src/trace/telemetry/export-report.js";
import { createFakeClock } from "../../support/fake-clock.js";

const spans: ExportedKind = { name: "spans", field: "Spans" };

function setUp(kind = spans) {
  const clock = createFakeClock();
  const lines: [number, string, object][] = [];
  const log = { warn: (fields: object, message: string) => void lines.push([clock.now(), message, fields]) };
  return { clock, lines, report: createExportReport(kind, log, clock) };
}

const loss = "spans could not be exported";
const wait = "spans wait for the collector";

test("first loss is logged at once, and later ones together once a minute, including the last", () => {
  const { clock, lines, report } = setUp();
  report.lost(0, "rejected", "none");
  report.lost(2, "rejected", "14 UNAVAILABLE:\n no connection");
  for (let second = 1; second <= 100; second++) {
    clock.advance(1000);
    report.lost(3, "rejected", "rejected");
  }
  clock.advance(600_000);
  assert.deepEqual(lines, [
    [0, loss, { lostSpans: 2, reason: "14 UNAVAILABLE: no connection" }],
    [60_000, loss, { lostSpans: 177, reason: "rejected" }],
    [120_000, loss, { lostSpans: 123, reason: "rejected" }],
  ]);
  assert.deepEqual([...report.lostItems()], [["rejected", 302]]);
  assert.deepEqual(clock.due(), [], "no timer runs where nothing happens");
});

test("waiting spans are logged with the current count when the line is due, and not after a recovery", () => {
  const { clock, lines, report } = setUp();
  report.waiting(512, "rejected");
  report.waiting(1024, "rejected");
  report.waiting(1536, "silent");
  clock.advance(60_000);
  report.waiting(2048, "silent");
  report.delivered();
  clock.advance(600_000);
  report.waiting(5, "rejected");
  assert.deepEqual(lines, [
    [0, wait, { waitingSpans: 512, reason: "rejected" }],
    [60_000, wait, { waitingSpans: 1536, reason: "silent" }],
    [660_000, wait, { waitingSpans: 5, reason: "rejected" }],
  ]);
});

test("close logs outstanding losses at once", () => {
  const { clock, lines, report } = setUp();
  report.lost(1, "rejected", "rejected");
  report.lost(2, "rejected", "rejected");
  report.waiting(3, "rejected");
  report.waiting(4, "rejected");
  report.remark("deprecated");
  lines.length = 0;
  report.close();
  assert.deepEqual(lines, [[0, loss, { lostSpans: 2, reason: "rejected" }]]);
  assert.deepEqual(clock.due(), []);
});

test("text of a collector's response is cut", () => {
  const { lines, report } = setUp();
  report.lost(1, "rejected", "<html>".repeat(1000));
  report.remark("<html>".repeat(1000));
  assert.deepEqual(
    lines.map(([, , fields]) => Object.values(fields).map((value) => String(value).length)),
    [[1, 200], [200]],
  );
});

test("pino logger is accepted as the log", () => {
  const lines: string[] = [];
  const log = pino({ base: null, timestamp: false }, { write: (line) => lines.push(line) });
  createExportReport(spans, log, createFakeClock()).lost(1, "rejected", "rejected");
  assert.deepEqual(JSON.parse(lines.join("")), { level: 40, lostSpans: 1, reason: "rejected", msg: loss });
});

test("with once, a problem is logged again only after a successful export", () => {
  const { clock, lines, report } = setUp({ name: "metrics", field: "DataPoints", hint: "none", once: true });
  for (const recovers of [false, false, true, false]) {
    report.lost(3, "rejected", "12 UNIMPLEMENTED");
    report.waiting(4, "away");
    clock.advance(600_000);
    if (recovers) {
      report.delivered();
    }
  }
  report.close();
  const lost = "metrics could not be exported";
  assert.deepEqual(lines, [
    [0, lost, { lostDataPoints: 3, reason: "12 UNIMPLEMENTED", hint: "none" }],
    [0, "metrics wait for the collector", { waitingDataPoints: 4, reason: "away" }],
    [1_800_000, lost, { lostDataPoints: 9, reason: "12 UNIMPLEMENTED", hint: "none" }],
    [1_800_000, "metrics wait for the collector", { waitingDataPoints: 4, reason: "away" }],
  ]);
  assert.deepEqual(clock.due(), []);
});
