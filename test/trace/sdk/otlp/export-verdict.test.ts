import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { AnySchema, anyPack } from "@bufbuild/protobuf/wkt";
import grpc from "@grpc/grpc-js";
import { judgeGrpcFailure, judgeHttpFailure } from "../../../../src/trace/sdk/otlp/export-verdict.js";
import { retryStatus } from "../../../support/retry-status.js";

function failure(code: number, details?: Uint8Array): grpc.ServiceError {
  const metadata = new grpc.Metadata();
  if (details) {
    metadata.set("grpc-status-details-bin", Buffer.from(details));
  }
  return Object.assign(new Error(`${code} said`), { code, details: "said", metadata });
}

const retryable = ["CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"];

for (const [name, code] of Object.entries(grpc.status)) {
  if (typeof code === "number" && name !== "OK") {
    test(`gRPC ${name} ${retryable.includes(name) ? "is tried again" : "is not tried again"}`, () => {
      const expected = retryable.includes(name) ? "later" : "refused";
      assert.deepEqual(judgeGrpcFailure(failure(code)), { kind: expected, reason: `${code} said` });
    });
  }
}

test("RESOURCE_EXHAUSTED is tried again where RetryInfo says when", () => {
  const { RESOURCE_EXHAUSTED, UNAVAILABLE, INVALID_ARGUMENT } = grpc.status;
  const judged = (code: number, delayMs: number) => judgeGrpcFailure(failure(code, retryStatus(code, delayMs)));
  const later = { kind: "later", reason: "8 said", delayMs: 2500 };
  assert.deepEqual(judged(RESOURCE_EXHAUSTED, 2500), later);
  assert.deepEqual(judged(RESOURCE_EXHAUSTED, 0), { ...later, delayMs: 0 });
  assert.deepEqual(judged(UNAVAILABLE, 90_000), { kind: "later", reason: "14 said", delayMs: 90_000 });
  assert.deepEqual(judged(INVALID_ARGUMENT, 1000), { kind: "refused", reason: "3 said" });
});

test("details that mean nothing leave the word to the code", () => {
  const { RESOURCE_EXHAUSTED, UNAVAILABLE } = grpc.status;
  const rubbish = Buffer.from([0xff, 0xff, 0xff]);
  assert.equal(judgeGrpcFailure(failure(UNAVAILABLE, rubbish)).kind, "later");
  assert.equal(judgeGrpcFailure(failure(RESOURCE_EXHAUSTED, rubbish)).kind, "refused");
  const other = toBinary(AnySchema, anyPack(AnySchema, create(AnySchema)));
  assert.equal(judgeGrpcFailure(failure(RESOURCE_EXHAUSTED, other)).kind, "refused");
});

const now = Date.parse("2026-01-02T03:04:05Z");

for (const { status, retryAfter, expected } of [
  { status: 429, expected: { kind: "later" } },
  { status: 502, expected: { kind: "later" } },
  { status: 503, expected: { kind: "later" } },
  { status: 504, expected: { kind: "later" } },
  { status: 503, retryAfter: "7", expected: { kind: "later", delayMs: 7000 } },
  { status: 429, retryAfter: "Fri, 02 Jan 2026 03:04:35 GMT", expected: { kind: "later", delayMs: 30_000 } },
  { status: 503, retryAfter: "Fri, 02 Jan 2026 03:04:00 GMT", expected: { kind: "later" } },
  { status: 503, retryAfter: "soon", expected: { kind: "later" } },
  { status: 503, retryAfter: "-1", expected: { kind: "later" } },
  { status: 400, retryAfter: "7", expected: { kind: "refused" } },
  { status: 401, expected: { kind: "refused" } },
  { status: 404, expected: { kind: "refused" } },
  { status: 413, expected: { kind: "refused" } },
  { status: 500, expected: { kind: "refused" } },
  { status: 302, expected: { kind: "refused" } },
]) {
  test(`HTTP ${status}${retryAfter ? `, Retry-After: ${retryAfter}` : ""}`, () => {
    assert.deepEqual(judgeHttpFailure(status, retryAfter, now), { reason: `HTTP status ${status}`, ...expected });
  });
}
