import assert from "node:assert/strict";
import test from "node:test";
import { hopTimeoutMs } from "../../src/pipeline/hop-deadline.js";

test("a hop gives up 5 % or 20 ms earlier, whichever is more", () => {
  assert.equal(hopTimeoutMs(undefined), undefined);
  assert.equal(hopTimeoutMs(10_000), 9_500);
  assert.equal(hopTimeoutMs(100), 80);
  assert.equal(hopTimeoutMs(5), 1);
});
