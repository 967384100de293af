import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { core } from "@opentelemetry/sdk-node";
import { createBackOff } from "../../../../src/trace/sdk/otlp/back-off.js";
import { createExportReport, exportedSpans } from "../../../../src/trace/sdk/otlp/export-report.js";
import type { ExportVerdict } from "../../../../src/trace/sdk/otlp/export-verdict.js";
import { spanCodec } from "../../../../src/trace/sdk/otlp/otlp-codec.js";
import { createQueuedExporter } from "../../../../src/trace/sdk/otlp/queued-exporter.js";
import { createFakeClock } from "../../../support/fake-clock.js";
import { readableSpans, spanNames } from "../../../support/readable-spans.js";

const taken: ExportVerdict = { kind: "taken", response: new Uint8Array() };
const later: ExportVerdict = { kind: "later", reason: "away" };

/** An exporter before a collector that a test plays. */
function setUp(options: { maxItems?: number; maxBytes?: number } = {}) {
  const clock = createFakeClock();
  const lines: object[] = [];
  const tries: { names: string[]; timeoutMs: number; answer: (verdict: ExportVerdict) => Promise<void> }[] = [];
  let closes = 0;
  const exporter = createQueuedExporter({
    codec: spanCodec,
    transport: {
      send: (request, timeoutMs) =>
        new Promise((resolve) => {
          const answer = async (verdict: ExportVerdict) => {
            resolve(verdict);
            await turn();
          };
          tries.push({ names: spanNames(request), timeoutMs, answer });
        }),
      close: () => void closes++,
    },
    limits: { maxItems: options.maxItems ?? 100, maxBytes: options.maxBytes ?? 1_000_000 },
    timeoutMs: 3000,
    drainMs: 3300,
    backOff: createBackOff({ random: () => 0.5 }),
    clock,
    report: createExportReport({ kind: exportedSpans, log: { warn: (fields) => void lines.push(fields) }, clock }),
  });
  return {
    clock,
    lines,
    tries,
    exporter,
    lost: () => Object.fromEntries(exporter.lost()),
    closes: () => closes,
    send: (...names: string[]) => {
      let code: core.ExportResultCode | undefined;
      exporter.export(readableSpans(...names), (result) => {
        code = result.code;
      });
      assert.equal(code, core.ExportResultCode.SUCCESS, "a batch is taken before export returns");
    },
    /** Answers the last try. */
    answer: (verdict: ExportVerdict) => tries.at(-1)?.answer(verdict),
    names: () => tries.map(({ names }) => names.join("")),
  };
}

test("batches go out one at a time, in their order", async () => {
  const { send, answer, names, exporter, lost } = setUp();
  send("a", "b");
  send("c");
  send("d");
  assert.deepEqual(names(), ["ab"]);
  await answer(taken);
  await answer(taken);
  assert.deepEqual(names(), ["ab", "c", "d"]);
  await answer(taken);
  send("e");
  assert.deepEqual(names(), ["ab", "c", "d", "e"]);
  assert.deepEqual(lost(), {});
  assert.deepEqual([exporter.exported(), exporter.waiting()], [4, 1]);
});

test("a batch that fails is tried again after longer and longer pauses, and the others wait behind it", async () => {
  const { send, answer, names, clock, lines, lost } = setUp();
  send("a");
  await answer(later);
  send("b");
  for (const pauseMs of [1000, 1600, 2560]) {
    const before = names().length;
    clock.advance(pauseMs - 1);
    await turn();
    assert.equal(names().length, before);
    clock.advance(1);
    await turn();
    assert.equal(names().length, before + 1);
    await answer(later);
  }
  clock.advance(4096);
  await turn();
  await answer(taken);
  await answer(later);
  clock.advance(1000);
  await turn();
  await answer(taken);
  assert.deepEqual(names(), ["a", "a", "a", "a", "a", "b", "b"], "the pauses begin anew after a success");
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
  assert.deepEqual(lost(), {});
});

test("a wait that is over by the time it may be told is not told", async () => {
  const { send, answer, names, clock, lines } = setUp();
  send("a");
  await answer(later);
  clock.advance(1000);
  await turn();
  await answer(later);
  clock.advance(1600);
  await turn();
  await answer(taken);
  assert.deepEqual(names(), ["a", "a", "a"]);
  clock.advance(60_000);
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
});

test("the pause is the collector's where it asks for one", async () => {
  const { send, answer, names, clock } = setUp();
  send("a");
  await answer({ ...later, delayMs: 40_000 });
  clock.advance(43_999);
  await turn();
  assert.deepEqual(names(), ["a"]);
  clock.advance(1);
  await turn();
  assert.deepEqual(names(), ["a", "a"]);
});

test("what is refused is lost, and does not hold up the rest", async () => {
  const { send, answer, names, lines, lost } = setUp();
  send("a", "b");
  send("c");
  await answer({ kind: "refused", reason: "3 INVALID_ARGUMENT" });
  await answer(taken);
  assert.deepEqual(names(), ["ab", "c"]);
  assert.deepEqual(lines, [{ lostSpans: 2, reason: "3 INVALID_ARGUMENT" }]);
  assert.deepEqual(lost(), { rejected: 2 });
});

test("a partial success is told, and not sent again", async () => {
  const { send, answer, names, lines, lost, exporter } = setUp();
  send("a", "b", "c");
  // partial_success { rejected_spans: 2, error_message: "old" }
  await answer({ kind: "taken", response: Buffer.from([0x0a, 7, 0x08, 2, 0x12, 3, ...Buffer.from("old")]) });
  send("d");
  // partial_success { error_message: "slow down" }
  await answer({ kind: "taken", response: Buffer.from([0x0a, 11, 0x12, 9, ...Buffer.from("slow down")]) });
  send("e");
  await answer({ kind: "taken", response: Buffer.from("<html>") });
  assert.deepEqual(lines, [{ lostSpans: 2, reason: "rejected by the collector: old" }, { remark: "slow down" }]);
  assert.deepEqual(lost(), { rejected: 2 });
  assert.equal(exporter.exported(), 3);
  assert.deepEqual(names(), ["abc", "d", "e"]);
});

test("with the collector gone the queue keeps its bound, drops the oldest and counts them", async () => {
  const { send, answer, tries, clock, lines, exporter, lost } = setUp({ maxItems: 10 });
  for (let i = 0; i < 1000; i++) {
    send(`${i}`, `${i}`);
    await answer(later);
    clock.advance(1000);
    await turn();
  }
  await answer(later);
  assert.deepEqual(lost(), { queue_full: 2000 - 10 });
  assert.equal(exporter.waiting(), 10);
  const told = lines.map((line) => ("lostSpans" in line ? Number(line.lostSpans) : 0)).filter((spans) => spans > 0);
  assert.ok(told.length > 10 && told.length <= 1 + 1000 / 60, `${told.length} lines in 1000 s`);
  tries.length = 0;
  const end = exporter.shutdown();
  await turn();
  for (let i = 0; i < 5; i++) {
    await answer(taken);
  }
  await end;
  const kept = [995, 996, 997, 998, 999].map((i) => [`${i}`, `${i}`]);
  assert.deepEqual(
    tries.map(({ names }) => names),
    kept,
  );
});

test("the bound is one of bytes too", async () => {
  const { send, answer, lost } = setUp({ maxBytes: 10_000 });
  const long = "x".repeat(1500);
  for (let i = 0; i < 20; i++) {
    send(long);
  }
  await answer(later);
  const { queue_full: dropped = 0 } = lost();
  assert.ok(dropped >= 14 && dropped < 20, `${dropped} lost`);
});

test("a shutdown ends the pause and delivers what is queued, the oldest first", async () => {
  const { send, answer, names, exporter, closes, clock, tries, lines } = setUp();
  send("a");
  await answer(later);
  send("b");
  send("c");
  const end = exporter.shutdown();
  await turn();
  await answer(taken);
  clock.advance(1000);
  await answer(taken);
  assert.deepEqual(
    tries.map(({ timeoutMs }) => timeoutMs),
    [3000, 3000, 3000, 2300],
    "no try outlasts the shutdown's time",
  );
  assert.equal(closes(), 0);
  await answer(taken);
  await end;
  assert.deepEqual(names(), ["a", "a", "b", "c"]);
  assert.equal(closes(), 1);
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
  assert.deepEqual(clock.due(), []);
});

test("a shutdown gives up at the first failure that only a later try could mend, and tells what is lost", async () => {
  const { send, answer, names, exporter, closes, lines } = setUp();
  send("a");
  send("b", "c");
  send("d");
  const end = exporter.shutdown();
  await answer(later);
  assert.deepEqual(names(), ["a", "a"], "a try that began before is not the last");
  await answer({ kind: "refused", reason: "no" });
  assert.deepEqual(names(), ["a", "a", "bc"]);
  await answer(later);
  await end;
  assert.equal(closes(), 1);
  assert.deepEqual(lines, [
    { waitingSpans: 4, reason: "away" },
    { lostSpans: 1, reason: "no" },
    { lostSpans: 3, reason: "away" },
  ]);
});

test("an idle exporter shuts down at once; what comes afterwards is counted as lost", async () => {
  const { send, exporter, closes, tries, lost } = setUp();
  await Promise.all([exporter.shutdown(), exporter.shutdown()]);
  assert.equal(closes(), 1);
  send("a");
  assert.deepEqual(lost(), { shutdown: 1 });
  assert.deepEqual(tries, []);
});

test("closing in the middle of a try counts it and what is queued as lost, once", async () => {
  const { send, answer, exporter, closes, lost } = setUp();
  send("a", "b");
  send("c");
  exporter.close();
  assert.deepEqual(lost(), { shutdown: 3 });
  await answer(later);
  exporter.close();
  assert.deepEqual(lost(), { shutdown: 3 });
  assert.equal(exporter.waiting(), 0);
  assert.equal(closes(), 1);

  const paused = setUp();
  paused.send("a");
  await paused.answer(later);
  paused.exporter.close();
  await turn();
  assert.deepEqual(paused.lost(), { shutdown: 1 });
  assert.equal(paused.tries.length, 1);
});
