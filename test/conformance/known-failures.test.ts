import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { suite, test } from "node:test";
import { casePattern, shortPatterns } from "./support/case-pattern.js";
import {
  compareOutcomes,
  formatKnownFailures,
  parseKnownFailures,
  unexplained,
  updateKnownFailures,
  worseThan,
} from "./support/known-failures.js";

const passed = (...names: string[]) => names.map((name) => ({ name }));
const failed = (...names: string[]) => names.map((name) => ({ name, error: "wrong" }));

suite("pattern of conformance cases", () => {
  for (const [pattern, name, matches] of [
    ["a/b", "a/b", true],
    ["a/b", "a/b/c", false],
    ["a/*/c", "a/b/c", true],
    ["a/*/c", "a/c", false],
    ["**/c", "a/b/c", true],
    ["**/c", "c", true],
    ["a/**", "a", true],
    ["a/**/c", "a/c", true],
    ["a/**/c", "a/b/b/c", true],
    ["a/**/c", "a/b/d", false],
    ["a/(x.y)", "a/(x.y)", true],
    ["a/(x.y)", "a/(xzy)", false],
  ] as const) {
    test(`pattern ${pattern} ${matches ? "matches" : "does not match"} ${name}`, () => {
      assert.equal(casePattern(pattern)(name), matches);
    });
  }

  test("pattern is widened as far as no passing case matches", () => {
    const failing = ["s/H:1/TLS:true/x", "s/H:2/TLS:true/x", "s/H:1/TLS:false/y"];
    const passing = ["s/H:1/TLS:false/x", "s/H:1/TLS:true/y"];

    assert.deepEqual(shortPatterns(failing, passing), ["**/TLS:true/x", "**/TLS:false/y"]);
  });
});

suite("list of known failures", () => {
  const text = "# First.\n# Of two lines.\na/x\na/y\n\n# Second.\nb/**\n";

  test("known failures keep their reasons and patterns when read and written", () => {
    const list = parseKnownFailures(text);
    assert.deepEqual(list, [
      { reason: "First.\nOf two lines.", patterns: ["a/x", "a/y"] },
      { reason: "Second.", patterns: ["b/**"] },
    ]);
    assert.equal(formatKnownFailures(list), text);
    assert.throws(() => parseKnownFailures("a/x\n"), /a\/x has no reason/);
  });

  test("comparison reports new failures, unexpected passes and patterns without a case", () => {
    const list = parseKnownFailures(`${text}# Flaky: by turns.\nc/*\n`);
    const outcomes = [...failed("a/x", "b/1", "c/1", "new"), ...passed("b/2", "c/2", "fine")];

    assert.deepEqual(compareOutcomes(outcomes, list), {
      passed: 3,
      known: 3,
      unexpected: failed("new"),
      surprises: ["b/2"],
      unused: ["a/y"],
    });
  });

  test("comparison with a reference ignores flaky cases", () => {
    const list = parseKnownFailures("# Flaky: by turns.\nc/*\n# Always.\na/*\n");

    assert.deepEqual(worseThan(failed("a/x", "b", "c/1"), [...passed("a/x", "c/1"), ...failed("b")], list), ["a/x"]);
  });

  test("updated list keeps the reason for each remaining failure", () => {
    const list = parseKnownFailures(`${text}# Flaky: by turns.\nc/*\n`);
    const outcomes = [...failed("a/x", "b/1/z", "b/2/z", "new"), ...passed("b/2/y", "c/2", "a/new")];
    const updated = updateKnownFailures(outcomes, list);

    assert.deepEqual(updated, [
      { reason: "First.\nOf two lines.", patterns: ["a/x"] },
      { reason: "Second.", patterns: ["**/z"] },
      { reason: "Flaky: by turns.", patterns: ["c/*"] },
      { reason: unexplained, patterns: ["new"] },
    ]);
    const { unexpected, surprises, unused } = compareOutcomes(outcomes, updated);
    assert.deepEqual({ unexpected, surprises, unused }, { unexpected: [], surprises: [], unused: [] });
  });
});

test("checked-in lists of known failures are readable and have a reason for each pattern", () => {
  const folder = new URL("known/", import.meta.url);
  for (const name of readdirSync(folder)) {
    for (const { reason, patterns } of parseKnownFailures(readFileSync(new URL(name, folder), "utf8"))) {
      assert.notEqual(reason, unexplained, name);
      assert.ok(patterns.length > 0, `${name}: "${reason}" has no pattern`);
    }
  }
});
