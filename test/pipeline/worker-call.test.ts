import assert from "node:assert/strict";
import test from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Delivery } from "../../src/gen/throughline/v1/image_pb.js";
import { GenerateResponseSchema } from "../../src/gen/throughline/v1/pipeline_pb.js";
import {
  InferRequestSchema,
  InferResponseSchema,
  InferStreamRequestSchema,
  InferStreamResponseSchema,
} from "../../src/gen/throughline/v1/worker_pb.js";
import type { LoadReport } from "../../src/mesh/balance/replica-load.js";
import { invalidField, unavailable } from "../../src/mesh/errors/errors.js";
import { workerFailure } from "../../src/pipeline/call-worker.js";
import { inlineFallback } from "../../src/pipeline/inline-fallback.js";
import { loadOfWorker } from "../../src/pipeline/pipeline-app.js";

/** What the caller gets where the call to the worker fails. */
function mapped(error: unknown, signal = new AbortController().signal): ConnectError {
  return ConnectError.from(workerFailure(error, signal));
}

for (const code of [Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]) {
  test(`worker error ${Code[code]} is the pipeline's INTERNAL, and its text is not in the cause`, () => {
    const { code: tellsCode, rawMessage, cause } = mapped(new ConnectError("CANARY", code));
    assert.deepEqual([tellsCode, rawMessage], [Code.Internal, "the worker rejected the pipeline's call"]);
    assert.ok(cause instanceof Error);
    assert.equal(cause.message, `the worker returned ${Code[code]}`);
  });
}

test("cancellation by the caller is returned unchanged", () => {
  const error = new ConnectError("left", Code.Canceled);
  assert.equal(mapped(error, AbortSignal.abort(error)), error);
});

test("other worker errors are returned unchanged, with a long text cut", () => {
  const error = new ConnectError("width: no", Code.InvalidArgument);
  assert.equal(mapped(error), error);
  const cut = mapped(new ConnectError("x".repeat(5_000), Code.InvalidArgument, { key: "kept" }));
  assert.deepEqual([cut.code, cut.rawMessage.length, cut.metadata.get("key")], [Code.InvalidArgument, 1_000, "kept"]);
});

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

const request = { prompt: "x", options: { seed: 3, delivery: Delivery.INLINE } };

for (const path of ["options.delivery", "request.options.delivery"]) {
  test(`rejected ${path} asks for the older form of the request`, () => {
    assert.equal(inlineFallback.rejectsCurrent(invalidField(path, "value must be defined")), true);
  });
}

for (const error of [invalidField("options.width", "no"), invalidField("delivery", "no"), unavailable("away")]) {
  test(`call that fails with "${error.rawMessage}" is not repeated with DATA_URI`, () => {
    assert.equal(inlineFallback.rejectsCurrent(error), false);
  });
}

test("older form of a request has DATA_URI and is otherwise the same", () => {
  const older = { ...request, options: { ...request.options, delivery: Delivery.DATA_URI } };
  assert.deepEqual(inlineFallback.toOlder(create(InferRequestSchema, request)), create(InferRequestSchema, older));
  assert.deepEqual(
    inlineFallback.toOlder(create(InferStreamRequestSchema, { request })),
    create(InferStreamRequestSchema, { request: older }),
  );
  const other = create(InferResponseSchema);
  assert.equal(inlineFallback.toOlder(other), other);
});
