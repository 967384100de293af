import assert from "node:assert/strict";
import { suite, test } from "node:test";
import { Code } from "@connectrpc/connect";
import { createOutlierWatch } from "../../../src/mesh/balance/replica-load.js";

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
