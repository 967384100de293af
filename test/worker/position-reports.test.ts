import assert from "node:assert/strict";
import { test } from "node:test";
import { createPositionReports } from "../../src/worker/position-reports.js";

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) {
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** Joins so many waiters and, when each has its first report, counts the further ones. */
async function waitersOf(count: number) {
  let made = 0;
  const reports = createPositionReports<number>(() => made++);
  for (let waiter = 0; waiter < count; waiter++) {
    reports.join(waiter);
  }
  await turns();
  assert.equal(made, count);
  return { reports, further: () => made - count };
}

test("position changes are reported at once to a few waiting requests", async () => {
  const { reports, further } = await waitersOf(20);
  reports.changed();
  await turns();
  assert.equal(further(), 20);
});

test("position changes are delayed by 1 ms per waiting request, and cancelled requests get none", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const { reports, further } = await waitersOf(100);
  reports.changed();
  await turns();
  t.mock.timers.tick(99);
  await turns();
  assert.equal(further(), 0);
  reports.leave(0);
  t.mock.timers.tick(1);
  await turns();
  assert.equal(further(), 99);
});
