import assert from "node:assert/strict";
import { suite, type TestContext, test } from "node:test";
import { createStallWatch, StallError } from "../../src/cli/commands/stall-watch.js";

/** A watch of 300 s with a clock of its own. */
function start(t: TestContext) {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let now = 0;
  const watch = createStallWatch(300_000, () => now);
  const pass = (seconds: number) => {
    now += seconds * 1000;
    t.mock.timers.tick(seconds * 1000);
    return watch.signal.aborted;
  };
  return { watch, pass };
}

suite("time limit of a request without --timeout", () => {
  test("a request that never begins is given up, with the time and the flag in the message", (t) => {
    const { watch, pass } = start(t);
    assert.equal(pass(299), false);
    assert.equal(pass(1), true);
    assert.ok(watch.signal.reason instanceof StallError);
    assert.match(watch.signal.reason.message, /^no progress for 300 s; --timeout sets/);
  });

  test("a request that takes hours goes on while its steps arrive", (t) => {
    const { watch, pass } = start(t);
    for (let step = 0; step < 50; step++) {
      watch.progressed();
      assert.equal(pass(250), false);
    }
  });

  test("a step may take five times as long as the slowest before it", (t) => {
    const { watch, pass } = start(t);
    watch.progressed();
    pass(200);
    watch.progressed();
    assert.equal(pass(999), false);
    assert.equal(pass(1), true);
  });

  test("the queue has no limit, and does not count as a step", (t) => {
    const { watch, pass } = start(t);
    watch.queued();
    assert.equal(pass(50_000), false);
    watch.progressed();
    watch.progressed();
    assert.equal(pass(299), false);
    assert.equal(pass(1), true);
  });

  test("a watch that is stopped gives nothing up", (t) => {
    const { watch, pass } = start(t);
    watch.stop();
    assert.equal(pass(1_000), false);
  });
});
