import assert from "node:assert/strict";
import { test } from "node:test";
import { createCallDemand, type JobDemand } from "../../src/calls/demand.js";
import { createWork } from "../../src/scaler/work.js";

test("one count of the jobs serves all who ask at the same time, and none that ask after a change", async () => {
  const counts: ((jobs: number) => void)[] = [];
  const listeners: ((app: string | undefined) => void)[] = [];
  const jobs: JobDemand = {
    counts: () => new Promise((resolve) => counts.push((number) => resolve(new Map([["a/one", number]])))),
    onChange: (listener) => void listeners.push(listener),
  };
  const work = createWork({ calls: createCallDemand(), jobs });
  const before = Array.from({ length: 1_000 }, () => work.of("a/one"));
  assert.equal(counts.length, 1);
  for (const listener of listeners) {
    listener("a/one");
  }
  const after = Array.from({ length: 1_000 }, () => work.of("a/one"));
  assert.equal(counts.length, 2);
  counts[1]?.(5);
  counts[0]?.(4);
  assert.deepEqual(new Set((await Promise.all(before)).map(({ count }) => count)), new Set([4]));
  assert.deepEqual(new Set((await Promise.all(after)).map(({ count }) => count)), new Set([5]));
});

test("a failed count is asked again", async () => {
  let asked = 0;
  const counts = async () => {
    asked++;
    throw new Error("away");
  };
  const work = createWork({ calls: createCallDemand(), jobs: { counts, onChange() {} } });
  await assert.rejects(work.of("a/one"), /away/);
  await assert.rejects(work.of("a/one"), /away/);
  assert.equal(asked, 2);
});
