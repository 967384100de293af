import assert from "node:assert/strict";
import { test } from "node:test";
import { type EntityMapOptions, entityMapOf } from "../../src/studio/entity-map.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { makeSpan } from "../support/make-span.js";

const { startUnixNano: zero } = makeSpan();
const at = (ms: number) => zero + BigInt(ms) * 1_000_000n;
const options = (fields: Partial<EntityMapOptions> = {}): EntityMapOptions => ({
  windowSeconds: 60,
  nowUnixNano: at(10_000),
  isRunning: () => true,
  ...fields,
});

type Said = Parameters<typeof makeSpan>[0] & { readonly runs?: boolean };
const trace = (...spans: readonly Said[]): ReadonlyMap<string, SpanRecord> =>
  new Map(
    spans.map(({ runs, ...fields }) => {
      const span = makeSpan({ ...fields, ...(runs && { endUnixNano: 0n }) });
      return [span.spanId, span];
    }),
  );
const id = (digit: string) => digit.repeat(16);

const request = (startMs: number, endMs: number, failed = false) =>
  trace(
    { name: "image-pipeline", spanId: id("1"), kind: "SERVER", startMs, endMs },
    { name: "preprocess-prompt", spanId: id("2"), parentSpanId: id("1"), startMs, endMs: startMs },
    {
      name: "inference",
      spanId: id("3"),
      parentSpanId: id("1"),
      kind: "SERVER",
      service: "worker",
      startMs,
      endMs: endMs - 10,
      ...(failed && { status: { code: "ERROR", message: "" } as const }),
    },
    { name: "diffusion", spanId: id("4"), parentSpanId: id("3"), service: "worker", startMs, endMs: endMs - 20 },
  );

test("app is counted by its SERVER spans, and a call by its callee's span", () => {
  const { entities, calls } = entityMapOf([request(0, 100), request(1000, 1300, true), request(0, 200)], options());
  assert.deepEqual(entities, [
    {
      name: "image-pipeline",
      figures: { count: 3, errorCount: 0, perMinute: 3, medianMs: 200, p95Ms: 300, running: 0 },
    },
    { name: "worker", figures: { count: 3, errorCount: 1, perMinute: 3, medianMs: 190, p95Ms: 290, running: 0 } },
  ]);
  assert.deepEqual(calls, [
    {
      caller: "image-pipeline",
      callee: "worker",
      figures: { count: 3, errorCount: 1, perMinute: 3, medianMs: 190, p95Ms: 290, running: 0 },
    },
  ]);
});

test("rates are per minute of the window, and median and 95th percentile follow their definitions", () => {
  const many = Array.from({ length: 20 }, (_, i) => trace({ spanId: id("1"), kind: "SERVER", endMs: i + 1 }));
  const [entity] = entityMapOf(many, options({ windowSeconds: 300 })).entities;
  assert.deepEqual(entity?.figures, {
    count: 20,
    errorCount: 0,
    perMinute: 4,
    medianMs: 10.5,
    p95Ms: 19,
    running: 0,
  });
});

test("spans that ended before the window do not count, and the graph reports when the next one leaves it", () => {
  const traces = [request(0, 1000), request(4000, 5000)];
  const counts = (nowMs: number) => {
    const { entities, calls, changesAfterMs } = entityMapOf(traces, options({ nowUnixNano: at(nowMs) }));
    return [entities.map(({ figures }) => figures.count), calls.map(({ figures }) => figures.count), changesAfterMs];
  };
  // preprocess-prompt of the first request ended at 0.
  assert.deepEqual(counts(59_999), [[2, 2], [2], 1]);
  assert.deepEqual(counts(60_999), [[2, 1], [1], 1], "only the root of the first is left");
  assert.deepEqual(counts(61_000), [[1, 1], [1], 3000]);
  assert.deepEqual(counts(65_000), [[], [], undefined]);
});

test("running spans count separately, and lost ones not at all", () => {
  const running = trace(
    { spanId: id("1"), kind: "SERVER", runs: true },
    { spanId: id("3"), parentSpanId: id("1"), service: "worker", runs: true },
  );
  const { entities, calls } = entityMapOf([running, request(0, 100)], options());
  assert.deepEqual(
    [...entities, ...calls].map(({ figures: { count, running: runs } }) => [count, runs]),
    [
      [1, 1],
      [1, 1],
      [1, 1],
    ],
  );
  assert.deepEqual(entityMapOf([running], options({ isRunning: () => false })).entities, []);
});

test("span without its parent counts as called from outside", () => {
  const child = { parentSpanId: id("9") };
  const traces = [
    trace({ spanId: id("1"), kind: "SERVER", ...child }, { spanId: id("2"), kind: "INTERNAL", ...child }),
    trace({ spanId: id("1"), kind: "CONSUMER", ...child }),
  ];
  const { entities, calls } = entityMapOf(traces, options());
  assert.deepEqual(
    entities.map(({ figures }) => figures.count),
    [2],
  );
  assert.deepEqual(calls, []);
});

test("internal spans of an app count as no request", () => {
  const traces = [
    trace({ name: "load-model", spanId: id("1") }, { spanId: id("2"), parentSpanId: id("1") }),
    trace({ spanId: id("1"), kind: "CLIENT" }, { spanId: id("2"), parentSpanId: id("1"), runs: true }),
    trace({ spanId: id("1"), kind: "SERVER" }),
  ];
  const { entities, calls } = entityMapOf(traces, options());
  assert.deepEqual(
    entities.map(({ figures: { count, running } }) => [count, running]),
    [[1, 0]],
  );
  assert.deepEqual(calls, []);
});

test("app that only calls others is in the graph", () => {
  const traces = [
    trace(
      { spanId: id("1"), service: "a", startMs: -100_000, endMs: -90_000 },
      { spanId: id("2"), parentSpanId: id("1"), service: "b", endMs: 5 },
    ),
  ];
  const { entities } = entityMapOf(traces, options());
  assert.deepEqual(
    entities.map(({ name, figures }) => [name, figures.count]),
    [
      ["a", 0],
      ["b", 1],
    ],
  );
});

test("service graph is limited to 256 apps", () => {
  const flood = Array.from({ length: 3000 }, (_, i) =>
    trace(
      { spanId: id("1"), service: `caller ${i % 300}` },
      { spanId: id("2"), parentSpanId: id("1"), service: `callee ${i}` },
    ),
  );
  const { entities, calls } = entityMapOf(flood, options());
  assert.equal(entities.length, 256);
  const known = new Set(entities.map(({ name }) => name));
  assert.ok(calls.every(({ caller, callee }) => known.has(caller) && known.has(callee)));
  const all = Array.from({ length: 40 * 39 }, (_, i) => [Math.floor(i / 39), i % 39] as const);
  const pairs = all.map(([a, b]) =>
    trace(
      { spanId: id("1"), service: `${a}` },
      { spanId: id("2"), parentSpanId: id("1"), service: `${b < a ? b : b + 1}` },
    ),
  );
  assert.equal(entityMapOf(pairs, options()).calls.length, 1024);
});
