import assert from "node:assert/strict";
import test from "node:test";
import { runBalance } from "../../bench/balance/run-balance.js";

test("least_wait keeps workers of unequal speed busier than round_robin, and none idle beside a queue", async () => {
  // Side by side, so that a machine that is slow, or busy with other things, costs both the same. The bounds are the fake clock's test.
  const rounds = await Promise.all(
    (["least_wait", "round_robin"] as const).map((loadBalancing) =>
      runBalance({
        speeds: [1, 1, 2, 4],
        unitMs: 1_200,
        pipelines: 2,
        clients: 6,
        rounds: 1,
        roundMs: 6_000,
        policies: { loadBalancing },
      }),
    ),
  );
  const [least, turns] = rounds.flat();
  assert.ok(least && turns);
  assert.deepEqual([least.failures, turns.failures], [0, 0]);
  assert.ok(least.share > turns.share, `${least.share} and ${turns.share} of what the workers can do`);
  assert.ok(least.unfair <= 0.1, `${least.unfair} of the time a worker stood idle beside a queue`);
  assert.ok(least.unfair < turns.unfair / 2, `${least.unfair} and, taking turns, ${turns.unfair}`);
});
