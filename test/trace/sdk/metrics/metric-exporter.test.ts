import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { core, metrics, resources } from "@opentelemetry/sdk-node";
import { createMetricExporter } from "../../../../src/trace/sdk/metrics/metric-exporter.js";
import type { TemporalityPreference } from "../../../../src/trace/sdk/metrics/metrics-config.js";
import { createBackOff } from "../../../../src/trace/sdk/otlp/back-off.js";
import type { ExportVerdict } from "../../../../src/trace/sdk/otlp/export-verdict.js";
import { createFakeClock } from "../../../support/fake-clock.js";

const taken: ExportVerdict = { kind: "taken", response: new Uint8Array() };
const later: ExportVerdict = { kind: "later", reason: "away" };
const refused: ExportVerdict = { kind: "refused", reason: "12 UNIMPLEMENTED" };
const nothing = { resource: resources.emptyResource(), scopeMetrics: [] };

/** An exporter before a collector that a test plays. */
function setUp(temporality: TemporalityPreference = "cumulative") {
  const clock = createFakeClock();
  const lines: string[] = [];
  const tries: { timeoutMs: number; answer: (verdict: ExportVerdict) => Promise<void> }[] = [];
  let closes = 0;
  const exporter = createMetricExporter({
    transport: {
      send: (_request, timeoutMs) =>
        new Promise((resolve) => {
          const answer = async (verdict: ExportVerdict) => {
            resolve(verdict);
            await turn();
          };
          tries.push({ timeoutMs, answer });
        }),
      close: () => void closes++,
    },
    temporality,
    tryMs: 3000,
    timeoutMs: 10_000,
    drainMs: 3300,
    backOff: createBackOff({ random: () => 0.5 }),
    clock,
    log: { warn: ({ reason }, message) => void lines.push(`${message}: ${String(reason)}`) },
  });
  return {
    clock,
    lines,
    tries,
    exporter,
    closes: () => closes,
    /** Exports; settles with the code that the SDK is told. */
    send: () => {
      let code: core.ExportResultCode | undefined;
      exporter.export(nothing, (result) => {
        code = result.code;
      });
      return () => code;
    },
    answer: (verdict: ExportVerdict) => tries.at(-1)?.answer(verdict),
    advance: async (ms: number) => {
      clock.advance(ms);
      await turn();
    },
  };
}

test("an export is tried again with growing pauses until its time is over", async () => {
  const { send, answer, tries, advance, lines } = setUp();
  const code = send();
  for (const pauseMs of [1000, 1600, 2560, 4096]) {
    await answer(later);
    await advance(pauseMs - 1);
    const before = tries.length;
    await advance(1);
    assert.equal(tries.length, before + 1);
  }
  assert.deepEqual(
    tries.map(({ timeoutMs }) => timeoutMs),
    [3000, 3000, 3000, 3000, 10_000 - 9256],
  );
  assert.equal(code(), undefined);
  await answer(later);
  assert.equal(tries.length, 5, "the next pause would be longer than what is left");
  assert.equal(code(), core.ExportResultCode.SUCCESS, "the SDK has nothing to tell");
  assert.deepEqual(lines, ["metrics could not be exported: away"]);
});

test("a failure is told once until an export goes well", async () => {
  const { send, answer, lines } = setUp();
  for (const verdict of [refused, refused, refused, taken, refused]) {
    send();
    await answer(verdict);
  }
  const line = "metrics could not be exported: 12 UNIMPLEMENTED";
  assert.deepEqual(lines, [line, line]);
});

test("what a collector takes a part of is told", async () => {
  const { send, answer, lines } = setUp();
  send();
  // partial_success { rejected_data_points: 2, error_message: "old" }
  await answer({ kind: "taken", response: Buffer.from([0x0a, 7, 0x08, 2, 0x12, 3, ...Buffer.from("old")]) });
  send();
  await answer({ kind: "taken", response: Buffer.from("<html>") });
  assert.deepEqual(lines, ["metrics could not be exported: 2 data points rejected by the collector: old"]);
});

test("a shutdown ends the pause, and leaves one try to each export within its time", async () => {
  const { send, answer, tries, advance, exporter, clock } = setUp();
  const first = send();
  await answer(later);
  exporter.drain();
  await turn();
  assert.equal(tries.length, 2);
  await advance(1000);
  await answer(later);
  assert.equal(first(), core.ExportResultCode.SUCCESS);
  send();
  assert.equal(tries.at(-1)?.timeoutMs, 2300);
  await answer(later);
  assert.equal(tries.length, 3);
  assert.deepEqual(clock.due(), []);
});

test("a try that a shutdown finds on its way is the last of its export", async () => {
  const { send, answer, tries, exporter, clock } = setUp();
  const code = send();
  exporter.drain();
  await answer(later);
  assert.deepEqual([tries.length, code(), clock.due()], [1, core.ExportResultCode.SUCCESS, []]);
});

test("a closed exporter sends nothing, says nothing and waits for nothing", async () => {
  const { send, answer, tries, exporter, closes, lines, clock } = setUp();
  send();
  await answer(later);
  exporter.close();
  await turn();
  await answer(later);
  send();
  await turn();
  assert.deepEqual([tries.length, closes(), lines, clock.due()], [2, 1, [], []]);
});

const { COUNTER, HISTOGRAM, OBSERVABLE_COUNTER, UP_DOWN_COUNTER, OBSERVABLE_GAUGE } = metrics.InstrumentType;
for (const [preference, delta] of [
  ["cumulative", []],
  ["delta", [COUNTER, HISTOGRAM, OBSERVABLE_COUNTER]],
  ["lowmemory", [COUNTER, HISTOGRAM]],
] as const) {
  test(`temporality ${preference}`, () => {
    const { exporter } = setUp(preference);
    const all = [COUNTER, HISTOGRAM, OBSERVABLE_COUNTER, UP_DOWN_COUNTER, OBSERVABLE_GAUGE];
    assert.deepEqual(
      all.filter((type) => exporter.selectAggregationTemporality?.(type) === metrics.AggregationTemporality.DELTA),
      delta,
    );
  });
}
