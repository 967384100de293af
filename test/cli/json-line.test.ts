import assert from "node:assert/strict";
import { test } from "node:test";
import { jsonLine } from "../../src/cli/terminal/terminal.js";

test("JSON line contains no terminal control characters and parses to the same value", () => {
  const value = { name: "\u001b[31m\u009b31m\u202e\u2028\r\n\u200b\ufeff\u{e0041}", 愛: ["é", "😀", '"\\'] };
  const line = jsonLine(value);
  assert.match(line, /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*\n$/u);
  assert.ok(line.includes("愛") && line.includes("😀"));
  assert.deepEqual(JSON.parse(line), value);
});
