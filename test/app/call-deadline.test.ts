import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError, createContextValues } from "@connectrpc/connect";
import { callDeadline } from "../../src/app/call-deadline.js";
import { isServerTime, limitTimeout } from "../../src/mesh/serve/server-deadline.js";

const call = (timeoutMs: number | undefined, signal = new AbortController().signal) => ({
  signal,
  timeoutMs: () => timeoutMs,
  values: createContextValues(),
});

test("server deadline is 5 % or 20 ms before its caller's, whichever is more", (t) => {
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

test("deadline of a call over the wire is already the server's", () => {
  const own = call(9_500.7);
  own.values.set(isServerTime, true);
  const { signal } = own;
  assert.deepEqual(callDeadline(own), { signal, remainingMs: 9_500, onward: { signal, timeoutMs: 9_500 } });
});

for (const [name, given, limited, taken] of [
  ["grpc-timeout", "10S", "9500m", 9_500],
  ["grpc-timeout", "100m", "80m", 80],
  ["grpc-timeout", "99999999H", "2040109S", 2_040_109_464],
  ["connect-timeout-ms", "2000", "1900", 1_900],
  ["connect-timeout-ms", "soon", "soon", undefined],
] as const) {
  test(`${name} ${given} becomes ${limited}`, () => {
    const header = new Headers({ [name]: given });
    assert.equal(limitTimeout(header), taken);
    assert.equal(header.get(name), limited);
  });
}

test("call without a deadline keeps its own signal", () => {
  const own = call(undefined);
  const { signal } = own;
  assert.deepEqual(callDeadline(own), { signal, remainingMs: undefined, onward: { signal } });
});

test("onward calls have the deadline as their timeout and not as a signal", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const own = call(10_000);
  assert.deepEqual(callDeadline(own).onward, { signal: own.signal, timeoutMs: 9_500 });
});

test("abort of the call is propagated and stops the timer", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const controller = new AbortController();
  const { signal } = callDeadline(call(1_000, controller.signal));
  controller.abort(new Error("left"));
  t.mock.timers.tick(2_000);
  assert.match(String(signal.reason), /left/);
});
