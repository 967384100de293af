import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { withWorkerFailures } from "../../src/pipeline/worker-failure.js";

/** What a caller is told where the worker's stream fails. */
async function told(error: unknown, signal = new AbortController().signal): Promise<ConnectError> {
  const failing: AsyncIterable<never> = { [Symbol.asyncIterator]: () => ({ next: () => Promise.reject(error) }) };
  return withWorkerFailures(failing, signal)
    .next()
    .then(
      () => assert.fail("it went well"),
      (thrown: unknown) => ConnectError.from(thrown),
    );
}

for (const code of [Code.Unauthenticated, Code.PermissionDenied, Code.Canceled]) {
  test(`a worker's ${Code[code]} is the pipeline's own, and its words are in no log`, async () => {
    const { code: tellsCode, rawMessage, cause } = await told(new ConnectError("CANARY", code));
    assert.deepEqual([tellsCode, rawMessage], [Code.Internal, "the worker did not take the pipeline's call"]);
    assert.ok(cause instanceof Error);
    assert.equal(cause.message, `the worker answered ${Code[code]}`);
  });
}

test("a caller that left has cancelled itself", async () => {
  const error = new ConnectError("left", Code.Canceled);
  assert.equal(await told(error, AbortSignal.abort(error)), error);
});

test("other failures stay as they are, with a long text cut", async () => {
  const error = new ConnectError("width: no", Code.InvalidArgument);
  assert.equal(await told(error), error);
  const cut = await told(new ConnectError("x".repeat(5_000), Code.InvalidArgument, { told: "kept" }));
  assert.deepEqual([cut.code, cut.rawMessage.length, cut.metadata.get("told")], [Code.InvalidArgument, 1_000, "kept"]);
});
