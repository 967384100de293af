import assert from "node:assert/strict";
import test from "node:test";
import { createEventStream } from "../../src/app/event-stream.js";

interface Event {
  readonly case: "queued" | "progress" | "result";
  readonly value: number;
  readonly preview?: boolean;
}

/** A stream of numbers, and how to emit them. `P` marks those with a preview. */
function stream(last: Promise<Event> = Promise.resolve({ case: "result", value: -1 })) {
  let emit: (event: Event) => void = () => assert.fail("not begun");
  const iterator = createEventStream<Event, string>({
    run(given) {
      emit = given;
      return last;
    },
    toMessage: ({ case: kind, value, preview }) => `${kind} ${value}${preview ? " P" : ""}`,
    withoutPreview: ({ preview, ...event }) => (preview ? event : undefined),
  })[Symbol.asyncIterator]();
  return { emit: (event: Event) => emit(event), next: async () => (await iterator.next()).value, iterator };
}

const progress = (value: number, preview = false): Event => ({ case: "progress", value, preview });

/** What a reader gets from now on. */
async function rest({ next }: Pick<ReturnType<typeof stream>, "next">): Promise<string[]> {
  const all: string[] = [];
  for (let message = await next(); message !== undefined; message = await next()) {
    all.push(message);
  }
  return all;
}

test("stalled reader receives every step and only the newest eight previews", async () => {
  const reader = stream();
  for (let step = 1; step <= 20; step++) {
    reader.emit(progress(step, true));
  }
  const all = await rest(reader);
  assert.deepEqual(
    all,
    [...Array(20).keys()].map((i) => `progress ${i + 1}${i + 1 > 12 ? " P" : ""}`).concat("result -1"),
  );
});

test("stalled reader receives only the newest of consecutive positions", async () => {
  const reader = stream();
  for (const value of [3, 2, 1]) {
    reader.emit({ case: "queued", value });
  }
  reader.emit(progress(1));
  assert.deepEqual(await rest(reader), ["queued 1", "progress 1", "result -1"]);
});

test("failure is delivered after the events before it", async () => {
  const reader = stream(Promise.reject(new Error("broken")));
  reader.emit(progress(1));
  assert.equal(await reader.next(), "progress 1");
  await assert.rejects(reader.next(), /broken/);
});

test("waiting reader receives an event when it is emitted", async () => {
  const reader = stream(new Promise(() => {}));
  const next = reader.next();
  reader.emit(progress(1));
  assert.equal(await next, "progress 1");
});

test("number of queued events is limited", async () => {
  const reader = stream();
  for (let step = 1; step <= 5_000; step++) {
    reader.emit(progress(step));
  }
  const all = await rest(reader);
  // The reader takes the oldest of the 1,000 before the result comes.
  assert.deepEqual([all.length, all[0], all.at(-1)], [1_001, "progress 4001", "result -1"]);
});

test("closed stream keeps no events", async () => {
  const reader = stream(new Promise(() => {}));
  reader.emit(progress(1));
  await reader.iterator.return?.();
  reader.emit(progress(2));
  assert.equal(await reader.next(), undefined);
});
