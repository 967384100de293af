import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { createOutlierWatch, createReplicaLoad } from "../../../src/mesh/balance/replica-load.js";

function loadAt() {
  const clock = { ms: 1_000 };
  return { clock, load: createReplicaLoad(() => clock.ms) };
}

suite("estimated load of a replica", () => {
  test("idle replica has an expected wait of 0, whatever its speed", () => {
    const { clock, load } = loadAt();
    assert.equal(load.expectedWaitMs(100), 0);
    const call = load.begin();
    clock.ms += 400;
    call.end(true);
    assert.deepEqual([load.serviceMs, load.inFlight, load.expectedWaitMs(1)], [400, 0, 0]);
  });

  test("expected wait is the running calls times the service time, less the progress of the first", () => {
    const { clock, load } = loadAt();
    load.begin().end(false);
    const [first, second] = [load.begin(), load.begin()];
    assert.equal(load.expectedWaitMs(100), 200, "its own speed is not known yet");
    clock.ms += 30;
    assert.equal(load.expectedWaitMs(100), 170);
    clock.ms += 1_000;
    assert.equal(load.expectedWaitMs(100), 110, "an overdue call is not over");
    first.report({ serviceMs: 500 });
    first.end(true);
    assert.equal(load.serviceMs, 500);
    assert.equal(load.expectedWaitMs(1), 500);
    second.end(true);
    second.end(true);
    assert.equal(load.inFlight, 0);
  });

  test("service time is measured from served calls only", () => {
    const { clock, load } = loadAt();
    const [first, second, third] = [load.begin(), load.begin(), load.begin()];
    clock.ms += 100;
    first.end(true);
    clock.ms += 100;
    second.end(true);
    assert.equal(load.serviceMs, 100, "the time between two ends, not the time of waiting");
    clock.ms += 1;
    third.end(false);
    assert.equal(load.serviceMs, 100);
  });

  test("expected wait includes other clients' reported calls, and decreases as they are served", () => {
    const { clock, load } = loadAt();
    const before = load.begin();
    before.report({ serviceMs: 100 });
    before.end(true);
    load.begin();
    const call = load.begin();
    call.report({ ahead: 4 });
    assert.equal(load.expectedWaitMs(1), 500, "two of ours, and three of others: one of the four ahead is ours");
    clock.ms += 250;
    assert.ok(load.expectedWaitMs(1) < 300);
    clock.ms += 10_000;
    assert.ok(load.expectedWaitMs(1) < 200);
  });

  test("cancelled waiting call does not count as progress", () => {
    const { clock, load } = loadAt();
    load.begin();
    const waits = load.begin();
    clock.ms += 50;
    waits.end(false);
    assert.equal(load.expectedWaitMs(100), 50);
  });

  for (const untold of [Number.POSITIVE_INFINITY, Number.NaN, Number.NEGATIVE_INFINITY, -1, 1e15]) {
    test(`reported service time of ${untold} ms is ignored and the measured one used`, () => {
      const { clock, load } = loadAt();
      const call = load.begin();
      call.report({ serviceMs: untold });
      clock.ms += 400;
      call.end(true);
      load.begin();
      assert.deepEqual([load.serviceMs, load.expectedWaitMs(1)], [400, 400]);
    });
  }

  test("negative service time after a clock change is ignored", () => {
    const { clock, load } = loadAt();
    const call = load.begin();
    clock.ms -= 400;
    call.end(true);
    assert.equal(load.serviceMs, undefined);
  });
});

suite("outlier detection", () => {
  const clock = { ms: 0 };
  const create = () =>
    createOutlierWatch({
      consecutiveFailures: 3,
      baseEjectionTimeMs: 100,
      maxEjectionTimeMs: 150,
      now: () => clock.ms,
    });
  const fail = (watch: ReturnType<typeof create>, times: number, code = Code.Internal) => {
    for (let i = 0; i < times; i++) {
      watch.ended(code);
    }
  };

  test("outlier is ejected after consecutive failures, and for longer each time", () => {
    const watch = create();
    fail(watch, 2);
    watch.ended(undefined);
    fail(watch, 2);
    assert.equal(watch.ejected, false);
    fail(watch, 1, Code.Unavailable);
    assert.equal(watch.ejected, true);
    clock.ms += 100;
    assert.equal(watch.ejected, false);
    fail(watch, 1);
    clock.ms += 149;
    assert.equal(watch.ejected, true, "the second time is longer, up to the longest");
    clock.ms += 1;
    assert.equal(watch.ejected, false);
    watch.ended(undefined);
    fail(watch, 3);
    clock.ms += 100;
    assert.equal(watch.ejected, false, "one that went well begins anew");
  });

  test("outlier detection ignores rejections, cancellations, invalid requests and deadlines", () => {
    const watch = create();
    for (const code of [
      Code.ResourceExhausted,
      Code.Canceled,
      Code.InvalidArgument,
      Code.DeadlineExceeded,
      Code.NotFound,
    ]) {
      fail(watch, 10, code);
    }
    assert.equal(watch.ejected, false);
  });
});
