import assert from "node:assert/strict";
import test, { suite } from "node:test";
import { ViolationsSchema } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { Code, ConnectError } from "@connectrpc/connect";
import { RetryInfoSchema } from "../../../src/gen/google/rpc/error_details_pb.js";
import {
  deadlineExceeded,
  hiddenCauseOf,
  internal,
  invalidField,
  queueFull,
  retryDelayMsOf,
  toClientError,
} from "../../../src/mesh/errors/errors.js";
import { serverCodeOf } from "../../../src/otelconnect/errors.js";

suite("toClientError", () => {
  test("toClientError keeps a ConnectError", () => {
    const error = new ConnectError("as it is", Code.NotFound);
    assert.equal(toClientError(error), error);
  });

  test("toClientError masks an unknown error as INTERNAL and keeps it as the cause", () => {
    for (const thrown of [new TypeError("secret prompt"), "secret prompt", undefined, { code: 5 }]) {
      const error = toClientError(thrown);
      assert.equal(error.code, Code.Internal);
      assert.equal(error.rawMessage, "internal error");
      assert.equal(error.cause, thrown);
    }
  });

  test("toClientError turns an AbortError into the signal's reason", () => {
    const abort = new DOMException("This operation was aborted", "AbortError");
    const deadline = deadlineExceeded("step 11 of 30");
    assert.equal(toClientError(abort, AbortSignal.abort(deadline)), deadline);
    assert.equal(toClientError(abort, AbortSignal.abort("why")).code, Code.Canceled);
    assert.equal(toClientError(abort).code, Code.Canceled);
  });

  test("toClientError turns a TimeoutError into DEADLINE_EXCEEDED", () => {
    assert.equal(toClientError(new DOMException("late", "TimeoutError")).code, Code.DeadlineExceeded);
  });
});

test("hiddenCauseOf returns local causes for the log, and no text from a server or caller", () => {
  const foreign = new TypeError("broken");
  assert.equal(hiddenCauseOf(internal("no", foreign)), foreign);
  const answered = Object.assign(new Error("5 NOT_FOUND: a prompt"), { code: 5, details: "a prompt", metadata: {} });
  for (const cause of [answered, internal("a prompt"), new DOMException("", "AbortError"), undefined]) {
    assert.equal(hiddenCauseOf(internal("no", cause)), undefined);
  }
});

test("deadlineExceeded message says where the time was spent", () => {
  assert.equal(deadlineExceeded("step 11 of 30").rawMessage, "deadline exceeded: step 11 of 30");
});

test("queueFull carries RetryInfo and lets gRPC clients try another server at once", () => {
  const error = queueFull("the queue is full", 2_345);
  assert.equal(error.code, Code.ResourceExhausted);
  assert.equal(retryDelayMsOf(error), 2_345);
  assert.equal(error.metadata.get("grpc-retry-pushback-ms"), "0");
  assert.equal(retryDelayMsOf(queueFull("", -5)), 0);
  assert.equal(retryDelayMsOf(new ConnectError("none")), undefined);
});

test("retry delay is limited to between 0 and one day, written or read", () => {
  const day = 86_400_000;
  for (const delayMs of [Number.POSITIVE_INFINITY, Number.NaN, 1e300]) {
    assert.equal(retryDelayMsOf(queueFull("", delayMs)), day);
  }
  for (const [seconds, nanos, expected] of [
    [2n ** 63n - 1n, 999_999_999, day],
    [-(2n ** 63n), -999_999_999, 0],
    [0n, -1, 0],
    [1n, 500_000_000, 1_500],
  ] as const) {
    const error = new ConnectError("full", Code.ResourceExhausted, undefined, [
      { desc: RetryInfoSchema, value: { retryDelay: { seconds, nanos } } },
    ]);
    assert.equal(retryDelayMsOf(error), expected);
  }
});

test("invalidField names the field in the message and in buf.validate.Violations", () => {
  const error = invalidField("options.width", "this model takes multiples of 32");
  assert.equal(error.code, Code.InvalidArgument);
  assert.equal(error.rawMessage, "options.width: this model takes multiples of 32");
  const [violation] = error.findDetails(ViolationsSchema)[0]?.violations ?? [];
  assert.deepEqual(
    violation?.field?.elements.map((element) => element.fieldName),
    ["options", "width"],
  );
  assert.equal(violation?.message, "this model takes multiples of 32");
});

const abort = new DOMException("This operation was aborted", "AbortError");
const late = new DOMException("late", "TimeoutError");
const running = new AbortController().signal;
const because = (code: Code) => AbortSignal.abort(new ConnectError("why", code));

/** The caller's code and the code of the server's span are the same. */
const ends: readonly (readonly [what: string, thrown: unknown, signal: AbortSignal | undefined, code: Code])[] = [
  ["a ConnectError", new ConnectError("no", Code.NotFound), because(Code.Canceled), Code.NotFound],
  ["an AbortError without a signal", abort, undefined, Code.Canceled],
  ["an unrelated AbortError", abort, running, Code.Canceled],
  ["an AbortError at the deadline", abort, because(Code.DeadlineExceeded), Code.DeadlineExceeded],
  ["an AbortError at a shutdown", abort, because(Code.Unavailable), Code.Unavailable],
  ["an AbortError of a signal without a ConnectError", abort, AbortSignal.abort("why"), Code.Canceled],
  ["a TimeoutError", late, undefined, Code.DeadlineExceeded],
  ["a TimeoutError after another abort", late, because(Code.Unavailable), Code.DeadlineExceeded],
  ["an unexpected error", new TypeError("secret"), because(Code.Canceled), Code.Internal],
  ["an object with only the name AbortError", { name: "AbortError" }, because(Code.Canceled), Code.Internal],
  ["nothing", undefined, undefined, Code.Internal],
];

for (const [what, thrown, signal, code] of ends) {
  test(`${what} is ${Code[code]} for the caller and for the span`, () => {
    assert.equal(toClientError(thrown, signal).code, code);
    assert.equal(serverCodeOf(thrown, signal), code);
  });
}
