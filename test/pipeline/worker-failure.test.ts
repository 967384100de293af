import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { workerFailure } from "../../src/pipeline/call-worker.js";

/** What the caller gets where the call to the worker fails. */
function told(error: unknown, signal = new AbortController().signal): ConnectError {
  return ConnectError.from(workerFailure(error, signal));
}

for (const code of [Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]) {
  test(`worker error ${Code[code]} is the pipeline's INTERNAL, and its text is not in the cause`, () => {
    const { code: tellsCode, rawMessage, cause } = told(new ConnectError("CANARY", code));
    assert.deepEqual([tellsCode, rawMessage], [Code.Internal, "the worker did not take the pipeline's call"]);
    assert.ok(cause instanceof Error);
    assert.equal(cause.message, `the worker answered ${Code[code]}`);
  });
}

test("cancellation by the caller is returned unchanged", () => {
  const error = new ConnectError("left", Code.Canceled);
  assert.equal(told(error, AbortSignal.abort(error)), error);
});

test("other worker errors are returned unchanged, with a long text cut", () => {
  const error = new ConnectError("width: no", Code.InvalidArgument);
  assert.equal(told(error), error);
  const cut = told(new ConnectError("x".repeat(5_000), Code.InvalidArgument, { told: "kept" }));
  assert.deepEqual([cut.code, cut.rawMessage.length, cut.metadata.get("told")], [Code.InvalidArgument, 1_000, "kept"]);
});
