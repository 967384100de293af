import assert from "node:assert/strict";
import test from "node:test";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../src/gen/google/rpc/error_details_pb.js";
import { userErrorOf } from "../../src/page/request/user-error.js";

test("violation is shown at its field", () => {
  const violation = (path: string, message: string) => ({
    field: { elements: path.split(".").map((fieldName) => ({ fieldName })) },
    message,
  });
  const value = {
    violations: [
      violation("request.options.width", "value must be a multiple of 8"),
      violation("options.delivery", "no"),
    ],
  };
  const problem = userErrorOf(
    new ConnectError("width: …", Code.InvalidArgument, undefined, [{ desc: ViolationsSchema, value }]),
  );
  assert.deepEqual([...problem.fields], [["width", "Value must be a multiple of 8."]]);
  assert.match(problem.advice, /marked fields/);
  assert.equal(problem.detail, "", "the banner does not repeat the paths of the contract");
});

test("full queue shows when to retry, and another limit does not", () => {
  const value = { retryDelay: { seconds: 3n, nanos: 500_000_000 } };
  const full = userErrorOf(
    new ConnectError("full", Code.ResourceExhausted, undefined, [{ desc: RetryInfoSchema, value }]),
  );
  assert.equal(full.retryAfterMs, 3500);
  assert.match(full.advice, /about 4 s/);
  assert.equal(userErrorOf(new ConnectError("too large", Code.ResourceExhausted)).retryAfterMs, undefined);
});

test("missing key requests one, and no other error does", () => {
  assert.equal(userErrorOf(new ConnectError("", Code.Unauthenticated)).needsKey, true);
  assert.equal(userErrorOf(new ConnectError("", Code.PermissionDenied)).needsKey, false);
});

test("lost service is distinguished from one without a worker", () => {
  const gone = userErrorOf(ConnectError.from(new TypeError("Failed to fetch"), Code.Internal));
  assert.match(gone.title, /could not be reached/);
  assert.equal(gone.connectionLost, true);
  assert.match(gone.advice, /throughline dev/);
  assert.equal(userErrorOf(new ConnectError("missing EndStreamResponse", Code.Internal)).title, gone.title);
  assert.match(userErrorOf(new ConnectError("no worker", Code.Unavailable)).title, /No worker/);
});

test("every code has a title, advice and the service's message", () => {
  for (const code of Object.values(Code).filter((each) => typeof each === "number")) {
    const { title, advice, detail } = userErrorOf(new ConnectError("the service's own words", code));
    assert.ok(title.length > 10 && !title.endsWith("."), Code[code]);
    assert.ok(advice.endsWith("."), Code[code]);
    assert.equal(detail, "the service's own words");
  }
});

test("error that is no call error is shown", () => {
  assert.match(userErrorOf(new Error("surprise")).title, /failed/);
});
