import assert from "node:assert/strict";
import test from "node:test";
import { cleanPrompt, codePointLength } from "../../src/pipeline/generate.js";

const cases: [name: string, raw: string, clean: string][] = [
  ["tabs, runs of spaces and both ends", "  a red\theart ", "a red heart"],
  ["every kind of line end", "a\r\nb\nc\u0085d\u2028e\u2029f\vg\fh", "a b c d e f g h"],
  ["control characters are dropped, not spaced", "a\u0000\u0007b\u007fc\u009bd", "abcd"],
  ["zero-width joiners stay", "👩\u200d🚀 می\u200cخواهم", "👩\u200d🚀 می\u200cخواهم"],
  ["composed form", "cafe\u0301", "café"],
  ["other white space is collapsed", "a\u00a0\u2003b\u3000c\ufeff", "a b c"],
  ["a control character between spaces", "a \u0001 b", "a b"],
  ["empty result", " \t\u0000\n ", ""],
];

for (const [name, raw, clean] of cases) {
  test(`cleanPrompt cleans: ${name}`, () => {
    assert.equal(cleanPrompt(raw), clean);
    assert.equal(cleanPrompt(clean), clean);
  });
}

test("codePointLength counts code points", () => {
  assert.equal(codePointLength(""), 0);
  assert.equal(codePointLength("  a red\theart "), 14);
  assert.equal(codePointLength("❤️🚀"), 3);
  assert.equal(codePointLength("👩\u200d🚀"), 3);
});
