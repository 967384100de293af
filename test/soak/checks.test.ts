import assert from "node:assert/strict";
import { test } from "node:test";
import { classify } from "./checks.js";
import type { FailedCall } from "./load.js";

const stream: FailedCall = {
  kind: "stream",
  code: "UNAVAILABLE",
  message: "the connection to the server was lost",
  events: 2,
  startedAt: 1_000,
  endedAt: 2_000,
};

test("failed call is expected only as a stream with events whose worker was killed during it", () => {
  const kills = [{ at: 1_900 }];
  assert.equal(classify(stream, kills), "mid-stream");
  for (const other of [
    { ...stream, kind: "unary" as const },
    { ...stream, events: 0 },
    { ...stream, code: "INTERNAL" },
    { ...stream, startedAt: 1_950 },
    { ...stream, endedAt: 1_800 },
    { ...stream, endedAt: 20_000 },
  ]) {
    assert.equal(classify(other, kills), "unexpected");
  }
  assert.equal(classify(stream, []), "unexpected");
});
