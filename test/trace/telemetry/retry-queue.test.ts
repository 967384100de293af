import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { type Clock, createExportReport } from "../../../src/trace/telemetry/export-report.js";
import type { ExportOutcome } from "../../../src/trace/telemetry/otlp-connection.js";
import { createRetryQueue } from "../../../src/trace/telemetry/retry-queue.js";
import { createFakeClock } from "../../support/fake-clock.js";

const delivered: ExportOutcome = { kind: "delivered", rejected: 0, remark: "" };
const retry: ExportOutcome = { kind: "retry", reason: "away" };
const final = (reason: string): ExportOutcome => ({ kind: "final", cause: "rejected", reason });

interface SetUpOptions {
  readonly maxItems?: number;
  readonly maxBytes?: number;
  readonly random?: () => number;
  /** Clock of the log's schedule. Default: the queue's. */
  readonly logClock?: Clock;
}

/** A queue before a collector that a test plays. A batch is a list of names, a name's size its length. */
function setUp({ maxItems = 100, maxBytes = 1_000_000, random = () => 0.5, logClock }: SetUpOptions = {}) {
  const clock = createFakeClock();
  const lines: object[] = [];
  const tries: { names: string[]; timeoutMs: number; answer: (outcome: ExportOutcome) => Promise<void> }[] = [];
  let connects = 0;
  let closes = 0;
  const queue = createRetryQueue<string[]>({
    connect(timeoutMs) {
      connects++;
      return {
        timeoutMs,
        export: (names) =>
          new Promise((resolve) => {
            const answer = async (outcome: ExportOutcome) => {
              resolve(outcome);
              await turn();
            };
            tries.push({ names, timeoutMs, answer });
          }),
        close: () => void closes++,
      };
    },
    count: ({ length }) => length,
    size(names) {
      if (names.includes("unencodable")) {
        throw new Error("no");
      }
      return names.join("").length;
    },
    limits: { maxItems, maxBytes },
    timeoutMs: 3000,
    drainMs: 3300,
    report: createExportReport(
      { name: "spans", field: "Spans" },
      { warn: (fields) => void lines.push(fields) },
      logClock ?? clock,
    ),
    clock,
    random,
  });
  return {
    clock,
    lines,
    tries,
    queue,
    lost: () => Object.fromEntries(queue.lost()),
    connections: () => ({ made: connects, closed: closes }),
    send: (...names: string[]) => {
      let code: number | undefined;
      queue.export(names, (result) => {
        code = result.code;
      });
      assert.equal(code, 0, "a batch is accepted before export returns");
    },
    /** Answers the last try. */
    answer: (outcome: ExportOutcome) => tries.at(-1)?.answer(outcome),
    names: () => tries.map(({ names }) => names.join("")),
  };
}

test("batches are exported one at a time and in order", async () => {
  const { send, answer, names, queue, lost } = setUp();
  send("a", "b");
  send("c");
  send("d");
  assert.deepEqual(names(), ["ab"]);
  await answer(delivered);
  await answer(delivered);
  assert.deepEqual(names(), ["ab", "c", "d"]);
  await answer(delivered);
  send("e");
  assert.deepEqual(names(), ["ab", "c", "d", "e"]);
  assert.deepEqual(lost(), {});
  assert.deepEqual([queue.exported(), queue.waiting()], [4, 1]);
});

test("failed batch is retried with growing backoff, and later batches wait behind it", async () => {
  const { send, answer, names, clock, lines, lost } = setUp();
  send("a");
  await answer(retry);
  send("b");
  for (const pauseMs of [1000, 1600, 2560]) {
    const before = names().length;
    clock.advance(pauseMs - 1);
    await turn();
    assert.equal(names().length, before);
    clock.advance(1);
    await turn();
    assert.equal(names().length, before + 1);
    await answer(retry);
  }
  clock.advance(4096);
  await turn();
  await answer(delivered);
  await answer(retry);
  clock.advance(1000);
  await turn();
  await answer(delivered);
  assert.deepEqual(names(), ["a", "a", "a", "a", "a", "b", "b"], "the pauses begin anew after a success");
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
  assert.deepEqual(lost(), {});
});

test("wait that ends before its log line is due is not logged", async () => {
  const { send, answer, names, clock, lines } = setUp();
  send("a");
  await answer(retry);
  clock.advance(1000);
  await turn();
  await answer(retry);
  clock.advance(1600);
  await turn();
  await answer(delivered);
  assert.deepEqual(names(), ["a", "a", "a"]);
  clock.advance(60_000);
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
});

test("backoff is the collector's delay when it gives one", async () => {
  const { send, answer, names, clock } = setUp();
  send("a");
  await answer({ ...retry, delayMs: 40_000 });
  clock.advance(43_999);
  await turn();
  assert.deepEqual(names(), ["a"]);
  clock.advance(1);
  await turn();
  assert.deepEqual(names(), ["a", "a"]);
});

test("rejected batch is lost and does not delay the rest", async () => {
  const { send, answer, names, lines, lost } = setUp();
  send("a", "b");
  send("c");
  await answer(final("3 INVALID_ARGUMENT"));
  await answer(delivered);
  assert.deepEqual(names(), ["ab", "c"]);
  assert.deepEqual(lines, [{ lostSpans: 2, reason: "3 INVALID_ARGUMENT" }]);
  assert.deepEqual(lost(), { rejected: 2 });
});

test("partial success is reported and not sent again", async () => {
  const { send, answer, names, lines, lost, queue } = setUp();
  send("a", "b", "c");
  await answer({ kind: "delivered", rejected: 2, remark: "old" });
  send("d");
  await answer({ kind: "delivered", rejected: 0, remark: "slow down" });
  send("e");
  await answer(delivered);
  assert.deepEqual(lines, [{ lostSpans: 2, reason: "rejected by the collector: old" }, { remark: "slow down" }]);
  assert.deepEqual(lost(), { rejected: 2 });
  assert.equal(queue.exported(), 3);
  assert.deepEqual(names(), ["abc", "d", "e"]);
});

test("queue of a lost collector keeps its limit, drops the oldest and counts them", async () => {
  const { send, answer, tries, clock, lines, queue, lost } = setUp({ maxItems: 10 });
  for (let i = 0; i < 1000; i++) {
    send(`${i}`, `${i}`);
    await answer(retry);
    clock.advance(1000);
    await turn();
  }
  await answer(retry);
  assert.deepEqual(lost(), { queue_full: 2000 - 10 });
  assert.equal(queue.waiting(), 10);
  const losses = lines.map((line) => ("lostSpans" in line ? Number(line.lostSpans) : 0)).filter((spans) => spans > 0);
  assert.ok(losses.length > 10 && losses.length <= 1 + 1000 / 60, `${losses.length} lines in 1000 s`);
  tries.length = 0;
  const end = queue.shutdown();
  await turn();
  for (let i = 0; i < 5; i++) {
    await answer(delivered);
  }
  await end;
  const kept = [995, 996, 997, 998, 999].map((i) => [`${i}`, `${i}`]);
  assert.deepEqual(
    tries.map(({ names }) => names),
    kept,
  );
});

test("queue has a byte limit too", async () => {
  const { send, answer, lost } = setUp({ maxBytes: 10_000 });
  const long = "x".repeat(1500);
  for (let i = 0; i < 20; i++) {
    send(long);
  }
  await answer(retry);
  const { queue_full: dropped = 0 } = lost();
  assert.equal(dropped, 14);
});

test("shutdown ends the backoff and delivers the queue, oldest first", async () => {
  const { send, answer, names, queue, connections, clock, tries, lines } = setUp();
  send("a");
  await answer(retry);
  send("b");
  send("c");
  send("d");
  const end = queue.shutdown();
  await turn();
  await answer(delivered);
  clock.advance(1000);
  await answer(delivered);
  clock.advance(100);
  await answer(delivered);
  assert.deepEqual(
    tries.map(({ timeoutMs }) => timeoutMs),
    [3000, 3000, 3000, 1150, 1150],
    "no try outlasts the shutdown's time: a new exporter gets half of it",
  );
  assert.deepEqual(connections(), { made: 3, closed: 2 });
  await answer(delivered);
  await end;
  assert.deepEqual(names(), ["a", "a", "b", "c", "d"]);
  assert.deepEqual(connections(), { made: 3, closed: 3 });
  assert.deepEqual(lines, [{ waitingSpans: 1, reason: "away" }]);
  assert.deepEqual(clock.due(), []);
});

test("shutdown stops at the first retryable failure and reports the loss", async () => {
  const { send, answer, names, queue, lines } = setUp();
  send("a");
  send("b", "c");
  send("d");
  const end = queue.shutdown();
  await answer(retry);
  assert.deepEqual(names(), ["a", "a"], "a try that began before is not the last");
  await answer(final("no"));
  assert.deepEqual(names(), ["a", "a", "bc"]);
  await answer(retry);
  await end;

  assert.deepEqual(lines, [
    { waitingSpans: 4, reason: "away" },
    { lostSpans: 1, reason: "no" },
    { lostSpans: 3, reason: "away" },
  ]);
});

test("idle queue shuts down at once, and later spans count as lost", async () => {
  const { send, queue, tries, lost } = setUp();
  await Promise.all([queue.shutdown(), queue.shutdown()]);
  send("a");
  assert.deepEqual(lost(), { shutdown: 1 });
  assert.deepEqual(tries, []);
});

test("exporter is recreated after a retryable failure and otherwise kept", async () => {
  const { send, answer, clock, connections } = setUp();
  send("a");
  await answer(delivered);
  send("b");
  await answer(final("no"));
  send("c");
  assert.deepEqual(connections(), { made: 1, closed: 0 });
  await answer(retry);
  assert.deepEqual(connections(), { made: 1, closed: 1 });
  clock.advance(1000);
  await turn();
  assert.deepEqual(connections(), { made: 2, closed: 1 });
});

test("failed batch returns to the head of the queue as its oldest", async () => {
  const { send, answer, lost, queue, names } = setUp({ maxItems: 10 });
  send("a", "a", "a", "a");
  send("b", "b", "b");
  send("c", "c", "c");
  assert.deepEqual(lost(), {});
  await answer(retry);
  assert.deepEqual(lost(), {}, "full to the limit");
  send("d");
  assert.deepEqual(lost(), { queue_full: 4 });
  send(..."e".repeat(11));
  assert.deepEqual(lost(), { queue_full: 4 + 7 + 11 - 0 }, "a batch that is too large drops the others with it");
  assert.equal(queue.waiting(), 0);
  assert.deepEqual(names(), ["aaaa"]);
});

test("batch that cannot be encoded is lost and does not delay the rest", async () => {
  const { send, answer, lost, names } = setUp();
  send("a");
  send("unencodable");
  await answer({ kind: "final", cause: "encoding", reason: "cannot be encoded" });
  send("b");
  assert.deepEqual([lost(), names()], [{ encoding: 2 }, ["a", "b"]]);
});

/** Milliseconds of each pause between tries that fail. */
async function pauses(tries: number, options: SetUpOptions, outcome = retry): Promise<number[]> {
  const { send, answer, clock } = setUp({ ...options, logClock: createFakeClock() });
  send("a");
  const waited: number[] = [];
  for (let i = 0; i < tries; i++) {
    await answer(outcome);
    const [pauseMs = 0] = clock.due();
    waited.push(Math.round(pauseMs));
    clock.advance(pauseMs);
    await turn();
  }
  return waited;
}

test("backoff grows from 1 s by 1.6 to 30 s with 20 % jitter", async () => {
  const grown = [1000, 1600, 2560, 4096, 6554, 10_486, 16_777, 26_844, 30_000, 30_000];
  assert.deepEqual(await pauses(10, {}), grown);
  assert.deepEqual(await pauses(1, { random: () => 0 }), [800]);
  assert.deepEqual(await pauses(1, { random: () => 0.75 }), [1100]);
  const byChance = (await Promise.all(Array.from({ length: 50 }, () => pauses(1, { random: Math.random })))).flat();
  assert.ok(byChance.every((ms) => ms >= 800 && ms <= 1200) && new Set(byChance).size > 1);
});

test("collector's delay is a minimum with at most 20 % more, and 0 is ignored", async () => {
  assert.deepEqual(await pauses(1, { random: () => 0 }, { ...retry, delayMs: 45_000 }), [45_000]);
  assert.deepEqual(await pauses(1, {}, { ...retry, delayMs: 5000 }), [5500]);
  assert.deepEqual(await pauses(1, {}, { ...retry, delayMs: 0 }), [1000]);
  assert.deepEqual(await pauses(1, {}, { ...retry, delayMs: 1e15 }), [2 ** 31 - 1], "the most that a timer can wait");
});

test("close during an attempt counts its batch and the queue as lost once", async () => {
  const { send, answer, queue, lost } = setUp();
  send("a", "b");
  send("c");
  queue.close();
  assert.deepEqual(lost(), { shutdown: 3 });
  await answer(retry);
  queue.close();
  assert.deepEqual(lost(), { shutdown: 3 });
  assert.equal(queue.waiting(), 0);

  const paused = setUp();
  paused.send("a");
  await paused.answer(retry);
  paused.queue.close();
  await turn();
  assert.deepEqual(paused.lost(), { shutdown: 1 });
  assert.equal(paused.tries.length, 1);
});
