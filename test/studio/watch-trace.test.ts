import assert from "node:assert/strict";
import { test } from "node:test";
import { createSpanStore } from "../../src/studio/span-store.js";
import { watchTrace } from "../../src/studio/studio-service.js";
import { makeSpan } from "../support/make-span.js";

test("newest 2,000 spans are kept for a stalled reader", async () => {
  const store = createSpanStore({ maxSpansPerTrace: 10_000 });
  const traceId = "a".repeat(32);
  const spanOf = (n: number) => makeSpan({ traceId, spanId: n.toString(16).padStart(16, "0"), name: `${n}` });
  store.add([spanOf(1)]);
  const leaving = new AbortController();
  const messages = watchTrace(store, { traceId, idleMs: 600_000, signal: leaving.signal });
  await messages.next();
  store.add(Array.from({ length: 5000 }, (_, n) => spanOf(n + 2)));
  store.add([spanOf(4000)]);
  const names: string[] = [];
  while (names.at(-1) !== "5001") {
    const { value, done } = await messages.next();
    assert.ok(done !== true);
    names.push(...value.map(({ name }) => name));
  }
  assert.equal(names.length, 2000);
  assert.equal(names[0], "3002");
  leaving.abort();
  assert.equal((await messages.next()).done, true);
  assert.equal(store.listenerCount(), 0);
});
