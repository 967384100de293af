import assert from "node:assert/strict";
import test from "node:test";
import { relay } from "../../src/worker/relay.js";

test("the source ends at its own speed while the reader stands still", async () => {
  let ended = () => {};
  const sourceEnded = new Promise<void>((resolve) => {
    ended = resolve;
  });
  async function* source() {
    try {
      yield* [1, 2, 3];
    } finally {
      ended();
    }
  }
  const reader = relay(source());
  assert.deepEqual(await reader.next(), { done: false, value: 1 });
  await sourceEnded;
  assert.deepEqual(
    [(await reader.next()).value, (await reader.next()).value, (await reader.next()).done],
    [2, 3, true],
  );
});

test("a failure comes after the events before it", async () => {
  async function* source() {
    yield 1;
    throw new Error("broken");
  }
  const reader = relay(source());
  assert.equal((await reader.next()).value, 1);
  await assert.rejects(reader.next(), /broken/);
});

test("events that wait can be lightened", async () => {
  async function* source() {
    yield* [{ preview: "a" }, { preview: "b" }, { preview: "c" }];
  }
  const seen: string[] = [];
  const lighten = (waiting: { preview: string }[]) => {
    for (const event of waiting) {
      event.preview = "";
    }
  };
  for await (const { preview } of relay(source(), { onBacklog: lighten })) {
    seen.push(preview);
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(seen.at(-1), "c");
  assert.ok(seen.includes(""));
});
