import assert from "node:assert/strict";
import test from "node:test";
import { createEventStream, type RunningEvent } from "../../src/app/event-stream.js";

interface Progress {
  readonly step: number;
  readonly preview: boolean;
}

type Event = RunningEvent<number, Progress>;

/** A stream of numbers, and how to emit them. `P` marks those with a preview. */
function stream(result: Promise<number> = Promise.resolve(-1)) {
  let emit: (event: Event) => void = () => assert.fail("not begun");
  const iterator = createEventStream<string, number, Progress, number, string>({
    request: "a request",
    run(request, given) {
      assert.equal(request, "a request");
      emit = given;
      return result;
    },
    toMessage: ({ case: kind, value }) =>
      typeof value === "number" ? `${kind} ${value}` : `${kind} ${value.step}${value.preview ? " P" : ""}`,
    withoutPreview: ({ step, preview }) => (preview ? { step, preview: false } : undefined),
  })[Symbol.asyncIterator]();
  return { emit: (event: Event) => emit(event), next: async () => (await iterator.next()).value, iterator };
}

const progress = (step: number, preview = false): Event => ({ case: "progress", value: { step, preview } });

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

test("previews that the reader received do not count", async () => {
  const reader = stream(new Promise(() => {}));
  const read: (string | undefined)[] = [];
  for (let step = 1; step <= 5; step++) {
    reader.emit(progress(step, true));
    read.push(await reader.next());
  }
  for (let step = 6; step <= 13; step++) {
    reader.emit(progress(step, true));
  }
  for (let step = 6; step <= 13; step++) {
    read.push(await reader.next());
  }
  assert.deepEqual(
    read,
    [...Array(13).keys()].map((i) => `progress ${i + 1} P`),
  );
});

test("stream without a request fails", async () => {
  const stream = createEventStream({
    request: undefined,
    run: () => assert.fail("run without a request"),
    toMessage: () => assert.fail("an event without a request"),
    withoutPreview: () => undefined,
  });
  await assert.rejects(async () => {
    for await (const _ of stream) {
      // To the failure.
    }
  }, /the request was not validated/);
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
