import assert from "node:assert/strict";
import { test } from "node:test";
import { createExportQueue } from "../../../../src/trace/sdk/otlp/export-queue.js";

const batch = (items: number, bytes = 0) => ({ items, request: new Uint8Array(bytes) });

test("gives batches in their order; one that is put back is the first again", () => {
  const queue = createExportQueue({ maxItems: 100, maxBytes: 100 });
  const [a, b] = [batch(1), batch(2)];
  queue.add(a);
  queue.add(b);
  assert.equal(queue.take(), a);
  assert.equal(queue.putBack(a), 0);
  assert.equal(queue.items(), 3);
  assert.deepEqual([queue.take(), queue.take(), queue.take()], [a, b, undefined]);
  assert.equal(queue.items(), 0);
});

for (const { what, limits, add } of [
  { what: "items", limits: { maxItems: 10, maxBytes: 1000 }, add: (items: number) => batch(items, 1) },
  { what: "bytes", limits: { maxItems: 1000, maxBytes: 10 }, add: (items: number) => batch(items, items) },
]) {
  test(`beyond the limit of ${what} the oldest give way`, () => {
    const queue = createExportQueue(limits);
    assert.equal(queue.add(add(3)), 0);
    const second = add(4);
    assert.equal(queue.add(second), 0);
    assert.equal(queue.add(add(3)), 0, "full to the limit");
    assert.equal(queue.add(add(1)), 3);
    assert.equal(queue.take(), second);
    assert.equal(queue.add(add(6)), 0, "what was taken makes room");
    assert.equal(queue.putBack(second), 4, "the oldest is what is put back");
    assert.equal(queue.add(add(11)), 21, "a batch that is too large takes the others with it");
    assert.equal(queue.items(), 0);
  });
}

test("is emptied with a count", () => {
  const queue = createExportQueue({ maxItems: 10, maxBytes: 10 });
  queue.add(batch(2, 5));
  queue.add(batch(3, 5));
  assert.equal(queue.clear(), 5);
  assert.equal(queue.take(), undefined);
  assert.equal(queue.add(batch(10, 10)), 0);
});
