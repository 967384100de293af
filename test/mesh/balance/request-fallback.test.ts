import assert from "node:assert/strict";
import { test } from "node:test";
import { createOlderReplicas } from "../../../src/mesh/balance/request-fallback.js";

test("replica that needs the older form of requests gets the current one again after 10 minutes", () => {
  let clock = 0;
  const older = createOlderReplicas(() => clock);
  const [replica, other] = [{}, {}];
  assert.equal(older.has(replica), false);
  older.add(replica);
  for (const [at, expected] of [
    [0, true],
    [599_999, true],
    [600_000, false],
  ] as const) {
    clock = at;
    assert.deepEqual([older.has(replica), older.has(other)], [expected, false]);
  }
});
