import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createContextValues } from "@connectrpc/connect";
import { callerContextKey, callerHeader, sharingKeyOf } from "../../../src/mesh/access/callers.js";

function call(countKey: string, header: Record<string, string> = {}, mayNameCallers = true) {
  const caller = { name: undefined, countKey, mayNameCallers, mayUse: () => true };
  const values = createContextValues().set(callerContextKey, caller);
  return { values, requestHeader: new Headers(header) };
}

const told = "0123456789abcdef0123456789abcdef";

describe("fairness key", () => {
  it("fairness key is stable for a caller and does not reveal its address", () => {
    const direct = sharingKeyOf(call("192.0.2.7"), { trustHeader: true });
    assert.match(direct, /^[0-9a-f]{32}$/);
    assert.equal(sharingKeyOf(call("192.0.2.7"), { trustHeader: false }), direct);
    assert.notEqual(sharingKeyOf(call("192.0.2.8"), { trustHeader: true }), direct);
  });

  it("fairness key comes from the header of a trusted caller only", () => {
    assert.equal(sharingKeyOf(call("192.0.2.7", { [callerHeader]: told }), { trustHeader: true }), told);
    assert.notEqual(sharingKeyOf(call("192.0.2.7", { [callerHeader]: told }), { trustHeader: false }), told);
  });

  it("fairness key is the caller's own when the caller may not name others", () => {
    const direct = sharingKeyOf(call("192.0.2.7"), { trustHeader: true });
    assert.equal(sharingKeyOf(call("192.0.2.7", { [callerHeader]: told }, false), { trustHeader: true }), direct);
  });

  it("fairness key is the caller's own when the header holds no valid key", () => {
    const direct = sharingKeyOf(call("192.0.2.7"), { trustHeader: true });
    for (const text of ["", "somebody", told.toUpperCase(), told.repeat(1000)]) {
      assert.equal(sharingKeyOf(call("192.0.2.7", { [callerHeader]: text }), { trustHeader: true }), direct);
    }
  });
});
