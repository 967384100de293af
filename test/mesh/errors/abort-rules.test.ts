import assert from "node:assert/strict";
import test from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { toClientError } from "../../../src/mesh/errors/errors.js";
import { serverCodeOf } from "../../../src/otelconnect/errors.js";

const abort = new DOMException("This operation was aborted", "AbortError");
const late = new DOMException("late", "TimeoutError");
const running = new AbortController().signal;
const because = (code: Code) => AbortSignal.abort(new ConnectError("why", code));

/** What a server's caller is told, and what the server's span says of it, are the same. */
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
