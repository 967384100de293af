import assert from "node:assert/strict";
import test from "node:test";
import { type HistoryEntry, type HistoryStore, openHistory } from "../../src/page/image/history.js";
import { emptyForm } from "../../src/page/request/request-form.js";

function entry(generatedAtMs: number, bytes = 10): HistoryEntry {
  return {
    id: String(generatedAtMs),
    generatedAtMs,
    form: emptyForm,
    seed: 7,
    model: "fake",
    executionProvider: "none",
    traceId: "",
    elapsedMs: 1,
    truncatedTokens: 0,
    width: 64,
    height: 64,
    contentType: "image/png",
    image: new Blob(["x".repeat(bytes)]),
    thumbnail: new Blob([]),
  };
}

function memoryStore(...first: HistoryEntry[]): HistoryStore & { readonly kept: Map<string, HistoryEntry> } {
  const kept = new Map(first.map((each) => [each.id, each]));
  return {
    kept,
    load: async () => [...kept.values()],
    save: async (each) => void kept.set(each.id, each),
    remove: async (ids) => ids.forEach((id) => void kept.delete(id)),
  };
}

const ids = (entries: readonly HistoryEntry[]) => entries.map(({ id }) => id);

test("history is sorted newest first, also from the store", async () => {
  const history = await openHistory({ store: memoryStore(entry(1), entry(3), entry(2)) });
  assert.deepEqual(ids(history.entries.value), ["3", "2", "1"]);
  await history.add(entry(4));
  assert.deepEqual(ids(history.entries.value), ["4", "3", "2", "1"]);
});

test("history drops the oldest entries over its number limit, also in the store", async () => {
  const store = memoryStore(entry(1), entry(2));
  const history = await openHistory({ store, bounds: { maxEntries: 2, maxBytes: 1000 } });
  await history.add(entry(3));
  assert.deepEqual(ids(history.entries.value), ["3", "2"]);
  assert.deepEqual([...store.kept.keys()], ["2", "3"]);
});

test("history drops the oldest entries over its byte limit, and never the newest", async () => {
  const history = await openHistory({ store: memoryStore(), bounds: { maxEntries: 10, maxBytes: 25 } });
  await history.add(entry(1, 10));
  await history.add(entry(2, 10));
  await history.add(entry(3, 10));
  assert.deepEqual(ids(history.entries.value), ["3", "2"]);
  await history.add(entry(4, 100));
  assert.deepEqual(ids(history.entries.value), ["4"]);
});

test("images to start from count against the byte limit, and are kept with their entries", async () => {
  const start = (bytes: number) => ({
    name: "a.png",
    image: new Blob(["x".repeat(bytes)]),
    width: 64,
    height: 64,
    original: undefined,
  });
  const store = memoryStore();
  const history = await openHistory({ store, bounds: { maxEntries: 10, maxBytes: 50 } });
  await history.add({ ...entry(1), start: start(20) });
  await history.add({ ...entry(2), start: start(10) });
  assert.deepEqual(ids(history.entries.value), ["2", "1"]);
  await history.add(entry(3));
  assert.deepEqual(ids(history.entries.value), ["3", "2"]);
  assert.equal(store.kept.get("2")?.start?.image.size, 10);
});

test("an entry of an older version gets the fields that the form has since", async () => {
  const { loras: _, strength: __, ...older } = { ...emptyForm, prompt: "a red heart" };
  const stored = { ...entry(1), form: older as typeof emptyForm };
  const history = await openHistory({ store: memoryStore(stored) });
  assert.deepEqual(history.entries.value[0]?.form, { ...emptyForm, prompt: "a red heart" });
});

test("clear empties history and store", async () => {
  const store = memoryStore(entry(1), entry(2));
  const history = await openHistory({ store });
  await history.clear();
  assert.deepEqual([history.entries.value.length, store.kept.size], [0, 0]);
});

test("history works in a browser without storage", async () => {
  const reject = () => Promise.reject(new Error("not in a private window"));
  const history = await openHistory({ store: { load: reject, save: reject, remove: reject } });
  await history.add(entry(1));
  assert.deepEqual(ids(history.entries.value), ["1"]);
});
