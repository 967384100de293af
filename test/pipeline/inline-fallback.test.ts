import assert from "node:assert/strict";
import test from "node:test";
import { type ConnectError, createClient, createRouterTransport, type Interceptor } from "@connectrpc/connect";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { TextToImageWorkerService } from "../../src/gen/throughline/v1/worker_pb.js";
import { invalidField, unavailable } from "../../src/mesh/errors/errors.js";
import { createInlineFallback } from "../../src/pipeline/inline-fallback.js";

const request = { prompt: "x", options: { delivery: Delivery.INLINE } };

/** A client of a worker that answers INLINE with an error, what the worker was asked for, and how many calls were made from outside. */
function workerWith(error: ConnectError, fallback = createInlineFallback()) {
  const asked: (Delivery | undefined)[] = [];
  const answer = (delivery: Delivery | undefined) => {
    asked.push(delivery);
    if (delivery === Delivery.INLINE) {
      throw error;
    }
    return { model: "old" };
  };
  let calls = 0;
  const count: Interceptor = (next) => (call) => {
    calls++;
    return next(call);
  };
  const transport = createRouterTransport(
    ({ service }) => {
      service(TextToImageWorkerService, {
        infer: ({ options }) => answer(options?.delivery),
        async *inferStream({ request: inner }) {
          yield { event: { case: "result", value: answer(inner?.options?.delivery) } };
        },
      });
    },
    { transport: { interceptors: [count, fallback] } },
  );
  return { client: createClient(TextToImageWorkerService, transport), asked, calls: () => calls };
}

for (const path of ["options.delivery", "request.options.delivery"]) {
  test(`app that rejects ${path} gets DATA_URI in the same call, and INLINE again after the retry time`, async () => {
    let clock = 0;
    const fallback = createInlineFallback({ retryAfterMs: 1000, now: () => clock });
    const { client, asked, calls } = workerWith(invalidField(path, "value must be defined"), fallback);
    for (const at of [0, 999, 1000]) {
      clock = at;
      assert.equal((await client.infer(request)).model, "old");
    }
    const { INLINE, DATA_URI } = Delivery;
    assert.deepEqual(asked, [INLINE, DATA_URI, DATA_URI, INLINE, DATA_URI]);
    assert.equal(calls(), 3);
  });
}

test("stream falls back to DATA_URI in the same call", async () => {
  const { client, asked, calls } = workerWith(invalidField("request.options.delivery", "value must be defined"));
  const models: string[] = [];
  for await (const { event } of client.inferStream({ request })) {
    models.push(event.case === "result" ? event.value.model : "");
  }
  assert.deepEqual([models, asked, calls()], [["old"], [Delivery.INLINE, Delivery.DATA_URI], 1]);
});

for (const error of [invalidField("options.width", "no"), invalidField("delivery", "no"), unavailable("away")]) {
  test(`call that fails with "${error.rawMessage}" is not repeated with DATA_URI`, async () => {
    const { client, asked } = workerWith(error);
    await assert.rejects(client.infer(request), { rawMessage: error.rawMessage });
    assert.deepEqual(asked, [Delivery.INLINE]);
  });
}
