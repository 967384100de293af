import assert from "node:assert/strict";
import { test } from "node:test";
import { createBackOff } from "../../../../src/trace/sdk/otlp/back-off.js";

test("pauses grow from 1 s by 1.6 to 30 s, and begin anew after a success", () => {
  const backOff = createBackOff({ random: () => 0.5 });
  const pauses = Array.from({ length: 10 }, () => Math.round(backOff.next()));
  assert.deepEqual(pauses, [1000, 1600, 2560, 4096, 6554, 10_486, 16_777, 26_844, 30_000, 30_000]);
  backOff.reset();
  assert.equal(backOff.next(), 1000);
});

test("a pause is a fifth more or less, at random", () => {
  assert.equal(createBackOff({ random: () => 0 }).next(), 800);
  assert.equal(createBackOff({ random: () => 0.75 }).next(), 1100);
  const pauses = Array.from({ length: 50 }, () => createBackOff().next());
  assert.ok(pauses.every((ms) => ms >= 800 && ms <= 1200));
  assert.ok(new Set(pauses).size > 1);
});

test("what the collector asks for is the least, with at most a fifth more; 0 is not asked", () => {
  assert.equal(createBackOff({ random: () => 0 }).next(45_000), 45_000);
  assert.equal(createBackOff({ random: () => 0.5 }).next(5000), 5500);
  assert.equal(createBackOff({ random: () => 0.5 }).next(0), 1000);
});

test("no pause is longer than Node's timers can wait, which would run at once", () => {
  assert.equal(createBackOff().next(1e15), 2 ** 31 - 1);
});
