import assert from "node:assert/strict";
import { test } from "node:test";
import { createCallDemand, wantedAfterMs } from "../../src/calls/demand.js";

test("calls count by app until they end, and keep their app wanted for a while after", () => {
  let now = 1_000;
  const demand = createCallDemand(() => now);
  const changes: string[] = [];
  demand.onChange((app) => changes.push(app));
  const ends = [demand.begin("a/one"), demand.begin("a/one"), demand.begin("a/two")];
  assert.deepEqual(demand.of("a/one"), { running: 2, wantedMs: 0 });
  assert.deepEqual(demand.of("a/two"), { running: 1, wantedMs: 0 });
  assert.deepEqual(demand.of("a/none"), { running: 0, wantedMs: 0 });
  ends[0]?.();
  ends[0]?.();
  assert.deepEqual(demand.of("a/one"), { running: 1, wantedMs: 0 }, "a call ends once");
  ends[1]?.();
  assert.deepEqual(demand.of("a/one"), { running: 0, wantedMs: wantedAfterMs });
  now += wantedAfterMs - 1;
  assert.deepEqual(demand.of("a/one"), { running: 0, wantedMs: 1 });
  assert.deepEqual(demand.apps, ["a/two", "a/one"]);
  now += 1;
  assert.deepEqual(demand.of("a/one"), { running: 0, wantedMs: 0 });
  assert.deepEqual(demand.apps, ["a/two"]);
  assert.deepEqual(changes, ["a/one", "a/one", "a/two", "a/one", "a/one"]);
});
