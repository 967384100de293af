import assert from "node:assert/strict";
import { test } from "node:test";
import { floorOf, linearFit } from "./linear-fit.js";

test("linear fit finds slope, mean and error of samples", () => {
  const exact = linearFit([0, 1, 2, 3].map((minute) => ({ at: 1e12 + minute * 60_000, value: 10 + 2 * minute })));
  assert.ok(Math.abs(exact.perMinute - 2) < 1e-6);
  assert.ok(Math.abs(exact.mean - 13) < 1e-9);
  assert.ok(exact.error < 1e-6);
  const noisy = linearFit([1, -1, 1, -1, 1, -1].map((value, index) => ({ at: index * 60_000, value })));
  assert.ok(Math.abs(noisy.perMinute) < noisy.error);
  assert.throws(() => linearFit([{ at: 0, value: 1 }]), RangeError);
});

test("floor has the smallest sample of each stretch", () => {
  const samples = [5, 3, 9, 4, 8].map((value, index) => ({ at: index * 10_000, value }));
  assert.deepEqual(
    floorOf(samples, 20_000).map(({ value }) => value),
    [3, 4, 8],
  );
});
