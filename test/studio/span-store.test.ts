import assert from "node:assert/strict";
import { test } from "node:test";
import { Code } from "@connectrpc/connect";
import { createSpanStore, spanBytes } from "../../src/studio/span-store.js";
import type { SpanRecord } from "../../src/trace/span-record.js";
import { makeSpan } from "../support/make-span.js";

const traceId = (digit: string) => digit.repeat(32);
const span = (trace: string, id: number, name = "work") =>
  makeSpan({ traceId: traceId(trace), spanId: id.toString(16).padStart(16, "0"), name });
const never = new AbortController().signal;

test("spans are stored by trace, and a repeated span replaces itself", () => {
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

test("traces without a new span for longest are evicted", () => {
  const store = createSpanStore({ maxSpans: 4 });
  store.add([span("a", 1), span("a", 2), span("b", 1)]);
  store.add([span("a", 3)]);
  store.add([span("c", 1)]);
  assert.deepEqual(store.traceIds(), [traceId("c"), traceId("a")]);
  store.add([span("d", 1)]);
  assert.deepEqual(store.traceIds(), [traceId("d"), traceId("c")], "a trace goes as a whole");
});

test("store stays within its limits for any sequence of spans", () => {
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

test("single trace cannot outgrow the store", () => {
  const store = createSpanStore({ maxSpans: 100, maxSpansPerTrace: 10 });
  store.add(Array.from({ length: 30 }, (_, i) => span("a", i + 1)));
  assert.equal(store.spansOf(traceId("a")).length, 10);
  store.add([span("a", 1, "again")]);
  assert.equal(store.spansOf(traceId("a"))[0]?.name, "again");
});

test("store has a byte limit, and a trace over its share loses its last spans", () => {
  const large = (trace: string, id: number) => span(trace, id, "x".repeat(10_000));
  const store = createSpanStore({ maxBytes: 100_000, maxBytesPerTrace: 50_000 });
  store.add([large("a", 1), large("b", 1), large("b", 2), large("b", 3)]);
  assert.deepEqual(
    store.traceIds().map((id) => store.spansOf(id).length),
    [2, 1],
  );
  for (let i = 0; i < 10; i++) {
    store.add([large("b", 2)]);
  }
  assert.equal(store.traceIds().length, 2, "a span that comes again takes no more");
  store.add([large("c", 1), large("d", 1)]);
  assert.deepEqual(store.traceIds(), ["d", "c", "b"].map(traceId));
  store.add([span("e", 1, "x".repeat(30_000))]);
  assert.deepEqual(store.traceIds(), ["d", "c", "b"].map(traceId), "what alone is too large leaves no trace");
});

test("trace cannot exceed the store's byte limit when its own share is larger", () => {
  const store = createSpanStore({ maxBytes: 30_000, maxBytesPerTrace: 1_000_000 });
  store.add([1, 2, 3].map((id) => span("a", id, "x".repeat(10_000))));
  assert.equal(store.spansOf(traceId("a")).length, 1);
});

test("byte size of a span includes lists, events and links", () => {
  const text = "x".repeat(1000);
  const plain = spanBytes(span("a", 1));
  const attributes = { text, list: [text, text], number: 1 };
  const bytesWith = (fields: Partial<SpanRecord>) => spanBytes({ ...span("a", 1), ...fields }) - plain;
  for (const fields of [
    { attributes },
    { resource: attributes },
    { events: [{ name: "", timeUnixNano: 0n, attributes }] },
    { links: [{ traceId: "", spanId: "", attributes }] },
  ]) {
    const bytes = bytesWith(fields);
    assert.ok(bytes > 6000 && bytes < 6600, `${bytes}`);
  }
  assert.equal(bytesWith({ status: { code: "ERROR", message: text } }), 2000);
});

test("waitForTrace ends with the export that completes the trace", async () => {
  const store = createSpanStore();
  const checkedCounts: number[] = [];
  const two = store.waitForTrace(
    traceId("a"),
    (spans) => {
      checkedCounts.push(spans.length);
      return spans.length === 2;
    },
    never,
  );
  store.add([span("a", 1)]);
  store.add([span("b", 1)]);
  store.add([span("a", 2), span("b", 2)]);
  store.add([span("a", 3)]);
  assert.equal((await two).length, 2);
  assert.deepEqual(checkedCounts, [0, 1, 2], "called after exports of its own trace only, and not after its end");
});

test("waitForTrace returns a stored trace at once", async () => {
  const store = createSpanStore();
  store.add([span("a", 1)]);
  assert.equal((await store.waitForTrace(traceId("a"), (spans) => spans.length === 1, never)).length, 1);
});

test("waitForTrace ends with its signal's reason", async () => {
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

const running = (trace: string, id: number, name = "work") => ({ ...span(trace, id, name), endUnixNano: 0n });

test("ended span replaces a running one and never the reverse", () => {
  const store = createSpanStore();
  store.add([running("a", 1), running("a", 2), span("a", 3)]);
  assert.equal(store.runningSpansOf(traceId("a")).length, 2);
  assert.equal(store.spansOf(traceId("a")).length, 1);
  store.add([span("a", 1, "ended")]);
  store.add([running("a", 1, "late")]);
  assert.deepEqual(
    [store.runningSpansOf(traceId("a")), store.spansOf(traceId("a"))].map((spans) => spans.map(({ name }) => name)),
    [["work"], ["ended", "work"]],
  );
});

test("waitForTrace counts ended spans only", async () => {
  const store = createSpanStore();
  const whole = store.waitForTrace(traceId("a"), (spans) => spans.length === 1, never);
  store.add([running("a", 1), running("a", 2)]);
  store.add([span("a", 1, "ended")]);
  assert.deepEqual(
    (await whole).map(({ name }) => name),
    ["ended"],
  );
});

test("running span without updates is lost after a time", () => {
  let nowMs = 0;
  const store = createSpanStore({ now: () => nowMs, lostAfterMs: 100 });
  store.add([running("a", 1), running("a", 2)]);
  nowMs = 60;
  store.add([running("a", 2)]);
  nowMs = 120;
  const [one, two] = [...store.traces()].flatMap((spans) => [...spans.values()]);
  assert.ok(one !== undefined && two !== undefined);
  assert.deepEqual([store.isRunning(one), store.isRunning(two)], [false, true]);
  assert.deepEqual(store.runningSpansOf(traceId("a")), [two]);
});

test("listeners receive stored spans, are counted and limited in number", () => {
  const store = createSpanStore({ maxListeners: 2, maxSpansPerTrace: 1 });
  const notified: string[] = [];
  const listener = (spans: readonly SpanRecord[]) => void notified.push(spans.map(({ name }) => name).join(" "));
  const leave = store.subscribe(listener);
  store.add([span("a", 1, "one"), span("a", 2, "no place"), span("b", 1, "two")]);
  store.add([running("a", 1, "late")]);
  assert.deepEqual(notified, ["one two"]);
  store.subscribe(listener);
  assert.throws(() => store.subscribe(listener), { code: Code.ResourceExhausted });
  leave();
  leave();
  assert.equal(store.listenerCount(), 1);
  store.add([span("c", 1, "three")]);
  assert.deepEqual(notified, ["one two", "three"]);
});
