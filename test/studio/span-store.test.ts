import assert from "node:assert/strict";
import { test } from "node:test";
import { createSpanStore } from "../../src/studio/span-store.js";
import { makeSpan } from "../support/make-span.js";

const traceId = (digit: string) => digit.repeat(32);
const span = (trace: string, id: number, name = "work") =>
  makeSpan({ traceId: traceId(trace), spanId: id.toString(16).padStart(16, "0"), name });
const never = new AbortController().signal;

test("spans are kept by trace; one that comes again replaces itself", () => {
  const store = createSpanStore();
  store.add([span("a", 1), span("b", 1), span("a", 2)]);
  store.add([span("a", 1, "again")]);
  assert.deepEqual(
    store.spansOf(traceId("a")).map(({ name }) => name),
    ["again", "work"],
  );
  assert.equal(store.spansOf(traceId("b")).length, 1);
  assert.deepEqual(store.spansOf(traceId("c")), []);
  assert.deepEqual(store.traceIds(), [traceId("a"), traceId("b")]);
});

test("the traces that were longest without a new span are forgotten", () => {
  const store = createSpanStore({ maxSpans: 4 });
  store.add([span("a", 1), span("a", 2), span("b", 1)]);
  store.add([span("a", 3)]);
  store.add([span("c", 1)]);
  assert.deepEqual(store.traceIds(), [traceId("c"), traceId("a")]);
  store.add([span("d", 1)]);
  assert.deepEqual(store.traceIds(), [traceId("d"), traceId("c")], "a trace goes as a whole");
});

test("a store stays within its bounds, whatever comes", () => {
  const store = createSpanStore({ maxSpans: 50, maxSpansPerTrace: 20 });
  let random = 7;
  const next = (below: number) => {
    random = (random * 48271) % 2147483647;
    return random % below;
  };
  for (let i = 0; i < 5000; i++) {
    store.add([span(next(12).toString(16), next(100) + 1)]);
  }
  const sizes = store.traceIds().map((id) => store.spansOf(id).length);
  assert.ok(sizes.every((size) => size > 0 && size <= 20));
  const total = sizes.reduce((sum, size) => sum + size, 0);
  assert.ok(total <= 50 && total > 30, `${total}`);
});

test("one trace alone cannot outgrow the store", () => {
  const store = createSpanStore({ maxSpans: 100, maxSpansPerTrace: 10 });
  store.add(Array.from({ length: 30 }, (_, i) => span("a", i + 1)));
  assert.equal(store.spansOf(traceId("a")).length, 10);
  store.add([span("a", 1, "again")]);
  assert.equal(store.spansOf(traceId("a"))[0]?.name, "again");
});

test("waiting for a trace ends with the export that makes it whole", async () => {
  const store = createSpanStore();
  const asked: number[] = [];
  const two = store.waitForTrace(
    traceId("a"),
    (spans) => {
      asked.push(spans.length);
      return spans.length === 2;
    },
    never,
  );
  store.add([span("a", 1)]);
  store.add([span("b", 1)]);
  store.add([span("a", 2), span("b", 2)]);
  store.add([span("a", 3)]);
  assert.equal((await two).length, 2);
  assert.deepEqual(asked, [0, 1, 2], "asked after its own trace's exports only, and not when it is over");
});

test("a trace that is there already is not waited for", async () => {
  const store = createSpanStore();
  store.add([span("a", 1)]);
  assert.equal((await store.waitForTrace(traceId("a"), (spans) => spans.length === 1, never)).length, 1);
});

test("waiting ends with the reason of its signal", async () => {
  const store = createSpanStore();
  const leaving = new AbortController();
  const waiting = store.waitForTrace(traceId("a"), () => false, leaving.signal);
  const reason = new Error("enough");
  leaving.abort(reason);
  await assert.rejects(waiting, (error) => error === reason);
  await assert.rejects(
    store.waitForTrace(traceId("a"), () => true, leaving.signal),
    (error) => error === reason,
  );
  store.add([span("a", 1)]);
});
