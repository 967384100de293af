import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { callDeadline } from "../../src/app/call-deadline.js";

const call = (timeoutMs: number | undefined, signal = new AbortController().signal) => ({
  signal,
  timeoutMs: () => timeoutMs,
});

test("a server gives up 5 % or 20 ms before its caller, whichever is more", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  for (const [given, taken] of [
    [10_000, 9_500],
    [100, 80],
    [1_999, 1_899],
    [5, 1],
  ] as const) {
    const { signal, remainingMs } = callDeadline(call(given));
    assert.equal(remainingMs, taken);
    t.mock.timers.tick(taken - 1);
    assert.equal(signal.aborted, false);
    t.mock.timers.tick(1);
    assert.equal(ConnectError.from(signal.reason).code, Code.DeadlineExceeded);
  }
});

test("without a deadline the call's own signal holds", () => {
  const own = call(undefined);
  assert.deepEqual(callDeadline(own), { signal: own.signal, remainingMs: undefined });
});

test("the call's own end comes through, and stops the timer", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const controller = new AbortController();
  const { signal } = callDeadline(call(1_000, controller.signal));
  controller.abort(new Error("left"));
  t.mock.timers.tick(2_000);
  assert.match(String(signal.reason), /left/);
});
