import assert from "node:assert/strict";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import { InferResponseSchema, InferStreamResponseSchema } from "../../src/gen/throughline/v1/worker_pb.js";
import type { LoadReport } from "../../src/mesh/balance/replica-load.js";
import { loadOfWorker } from "../../src/pipeline/pipeline-app.js";

const generated = { timings: { queueMs: 400, totalMs: 1_000 } };

test("response reports the worker's generation time without the wait before", () => {
  assert.deepEqual(loadOfWorker(create(InferResponseSchema, generated)), { serviceMs: 600 });
  assert.equal(loadOfWorker(create(InferResponseSchema)), undefined);
});

const events: readonly (readonly [
  event: NonNullable<MessageInitShape<typeof InferStreamResponseSchema>["event"]>,
  expected: LoadReport | undefined,
])[] = [
  [{ case: "queued", value: { position: 0 } }, { ahead: 1 }],
  [{ case: "queued", value: { position: 3 } }, { ahead: 4 }],
  [{ case: "progress", value: { step: 1, totalSteps: 2 } }, undefined],
  [{ case: "result", value: generated }, { serviceMs: 600 }],
  [{ case: "result", value: {} }, undefined],
  [{ case: undefined }, undefined],
];

for (const [event, expected] of events) {
  test(`event reports ${JSON.stringify(expected)}: ${JSON.stringify(event)}`, () => {
    assert.deepEqual(loadOfWorker(create(InferStreamResponseSchema, { event })), expected);
  });
}

test("message of another type reports no load", () => {
  assert.equal(loadOfWorker(create(GenerateResponseSchema)), undefined);
});

for (const totalMs of [Number.POSITIVE_INFINITY, Number.NaN, -1, 1e300]) {
  test(`response with a generation time of ${totalMs} ms reports no load`, () => {
    assert.equal(loadOfWorker(create(InferResponseSchema, { timings: { totalMs } })), undefined);
    const event = { case: "result", value: { timings: { totalMs } } } as const;
    assert.equal(loadOfWorker(create(InferStreamResponseSchema, { event })), undefined);
  });
}
