import assert from "node:assert/strict";
import { test } from "node:test";
import { type EndAppOptions, endApp, teardownMs } from "../../src/app/lifecycle.js";

function ending(options: Pick<EndAppOptions, "teardown">) {
  const logged: unknown[] = [];
  let flushed = false;
  const ended = endApp({
    ...options,
    name: "worker",
    telemetry: {
      async shutdown() {
        flushed = true;
      },
    },
    logger: { error: (fields: unknown) => logged.push(fields) },
  });
  return { ended, logged, flushed: () => flushed };
}

test("teardown that never ends is abandoned after the last spans are exported", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  let over = false;
  const { ended, logged, flushed } = ending({ teardown: () => new Promise(() => {}) });
  void ended.then(() => {
    over = true;
  });
  t.mock.timers.tick(teardownMs - 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual([over, flushed(), logged.length], [false, true, 0]);
  t.mock.timers.tick(1);
  await ended;
  assert.match(
    JSON.stringify(logged, (_, value) => (value instanceof Error ? value.message : value)),
    /3000 ms/,
  );
});

test("failed teardown is logged and does not fail the shutdown", async () => {
  const failure = new Error("the device is gone");
  const { ended, logged, flushed } = ending({ teardown: () => Promise.reject(failure) });
  await ended;
  assert.deepEqual([flushed(), logged], [true, [{ err: failure }]]);
});
