import assert from "node:assert/strict";
import test from "node:test";
import { timeLeftMs } from "../../src/page/request/generation.js";

const marks = (...times: number[]) => times.map((atMs, step) => ({ step, atMs }));

test("no time is estimated before the second step", () => {
  assert.equal(timeLeftMs([], 20, 0, 0), undefined);
  assert.equal(timeLeftMs(marks(0), 20, 0, 0), undefined);
  assert.equal(timeLeftMs([...marks(0), ...marks(5)], 20, 0, 5), undefined);
});

test("time left is the pace of the remaining steps plus the later stages, less the elapsed time", () => {
  assert.equal(timeLeftMs(marks(0, 100, 200), 10, 50, 200), 850);
  assert.equal(timeLeftMs(marks(0, 100, 200), 10, 50, 260), 790);
});

test("pace uses the last steps only, since the first one is slow", () => {
  assert.equal(timeLeftMs(marks(0, 5000, 5100, 5200, 5300, 5400, 5500, 5600, 5700, 5800), 19, 0, 5800), 1000);
});

test("time left is never negative", () => {
  assert.equal(timeLeftMs(marks(0, 100), 2, 0, 9000), 0);
});
