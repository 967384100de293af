import assert from "node:assert/strict";
import test, { type TestContext } from "node:test";
import { createWatchdog } from "../../../src/engine/child/generate-in-process.js";

/** A watch on its own clock: 600 ms for an image of up to 1024². */
function watched(t: TestContext) {
  let now = 0;
  const stalls: string[] = [];
  t.mock.timers.enable({ apis: ["setTimeout"] });
  t.mock.method(performance, "now", () => now);
  const watch = createWatchdog({ stallMs: 600, onStall: (reason) => stalls.push(reason) });
  const pass = (ms: number) => {
    now += ms;
    t.mock.timers.tick(ms);
    return stalls.length;
  };
  return { watch, pass, stalls };
}

test("watchdog restarts its time at each event and stops at the end", (t) => {
  const { watch, pass } = watched(t);
  watch.begin();
  assert.equal(pass(599), 0);
  watch.event();
  // It has taken 599 ms for one event, so ten times as long is no stall.
  assert.equal(pass(5_989), 0);
  watch.end();
  assert.equal(pass(1_000_000), 0);
});

test("watchdog reports a stall after too long without an event", (t) => {
  const { watch, pass, stalls } = watched(t);
  watch.begin();
  watch.event({ width: 1024, height: 1024 });
  assert.equal(pass(10), 0);
  watch.event();
  assert.equal(pass(600), 1);
  assert.deepEqual(stalls, ["no progress for 600 ms"]);
});

test("watchdog allows more time for a larger image", (t) => {
  const { watch, pass } = watched(t);
  watch.begin();
  watch.event({ width: 2048, height: 2048 });
  assert.equal(pass(16 * 600 - 1), 0);
  assert.equal(pass(1), 1);
});

test("watchdog allows more time on a machine that was slow before", (t) => {
  const { watch, pass } = watched(t);
  watch.begin();
  watch.event({ width: 2048, height: 2048 });
  pass(16 * 100);
  watch.event();
  watch.end();
  watch.begin();
  watch.event({ width: 512, height: 512 });
  assert.equal(pass(999), 0);
  assert.equal(pass(1), 1);
});
