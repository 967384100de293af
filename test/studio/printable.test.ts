import assert from "node:assert/strict";
import { test } from "node:test";
import { printable } from "../../src/studio/trace-text.js";

test("printable replaces control characters, line breaks and direction marks, and keeps the rest", () => {
  assert.equal(
    printable("\u001b[2J\u009b1m\r\n\u2028\u2029\u202eé 画 🎨"),
    `\ufffd[2J\ufffd1m${"\ufffd".repeat(5)}é 画 🎨`,
  );
});

test("printable cuts long text, also within a character", () => {
  assert.equal(printable("abcde", 5), "abcde");
  assert.equal(printable("abcdef", 5), "abcd…");
  assert.equal(printable("abc🎨def", 5), "abc\ufffd…");
});
