import assert from "node:assert/strict";
import test from "node:test";
import { runBalance } from "../../bench/balance/run-balance.js";

test("two pipelines keep workers of unequal speed busy, and none idle beside a queue", async () => {
  const [round] = await runBalance({
    speeds: [1, 1, 2, 4],
    unitMs: 1_200,
    pipelines: 2,
    clients: 6,
    rounds: 1,
    roundMs: 6_000,
  });
  assert.ok(round);
  assert.equal(round.failures, 0);
  // The exact bound is a matter of the fake clock's test; a machine that is busy with other things costs something here.
  assert.ok(round.share >= 0.85, `${round.share} of what the workers can do: ${round.pictures}`);
  assert.ok(round.unfair <= 0.05, `${round.unfair} of the time a worker stood idle beside a queue`);
});
