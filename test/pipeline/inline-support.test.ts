import assert from "node:assert/strict";
import test from "node:test";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { invalidField, unavailable } from "../../src/mesh/errors/errors.js";
import { createInlineSupport } from "../../src/pipeline/call-worker.js";

/** A worker that rejects INLINE in the words of its contract, and what it was asked for. */
function oldWorker(path: string) {
  const asked: Delivery[] = [];
  return {
    asked,
    async call(delivery: Delivery) {
      asked.push(delivery);
      if (delivery === Delivery.INLINE) {
        throw invalidField(path, "value must be one of the defined enum values");
      }
      return "image";
    },
  };
}

for (const path of ["options.delivery", "request.options.delivery"]) {
  test(`an app that rejects ${path} gets DATA_URI, and INLINE again after a while`, async () => {
    let clock = 0;
    const inline = createInlineSupport({ retryAfterMs: 1000, now: () => clock });
    const { asked, call } = oldWorker(path);
    for (const at of [0, 999, 1000]) {
      clock = at;
      assert.equal(await inline.call("a/old", call), "image");
    }
    assert.deepEqual(asked, [
      Delivery.INLINE,
      Delivery.DATA_URI,
      Delivery.DATA_URI,
      Delivery.INLINE,
      Delivery.DATA_URI,
    ]);
    assert.equal(await inline.call("a/new", async (delivery) => delivery), Delivery.INLINE);
  });
}

for (const error of [invalidField("options.width", "no"), invalidField("delivery", "no"), unavailable("away")]) {
  test(`a call that fails with "${error.rawMessage}" is not made again`, async () => {
    const inline = createInlineSupport();
    let calls = 0;
    const failing = inline.call("a/b", async () => {
      calls++;
      throw error;
    });
    await assert.rejects(failing, error);
    assert.equal(calls, 1);
  });
}
