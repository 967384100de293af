import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, test } from "node:test";
import { columnsOf, createTextStyle, isInteractive, jsonLine, renderTrace } from "../../src/cli/terminal/terminal.js";
import { makeSpan } from "../support/make-span.js";

const file = new PassThrough();
const terminal = Object.assign(new PassThrough(), { isTTY: true, columns: 80 });

suite("terminal", () => {
  test("terminal shows colors by default and a file none, unless configured otherwise", () => {
    const cases: [NodeJS.WritableStream, Record<string, string>, boolean][] = [
      [terminal, {}, true],
      [terminal, { TERM: "xterm" }, true],
      [terminal, { NO_COLOR: "1" }, false],
      [terminal, { NO_COLOR: "0" }, false],
      [terminal, { NO_COLOR: "" }, true],
      [terminal, { TERM: "dumb" }, false],
      [terminal, { FORCE_COLOR: "0" }, false],
      [terminal, { NO_COLOR: "1", FORCE_COLOR: "1" }, true],
      [file, {}, false],
      [file, { FORCE_COLOR: "1" }, true],
      [file, { FORCE_COLOR: "true" }, true],
      [file, { FORCE_COLOR: "" }, false],
      [file, { FORCE_COLOR: "false" }, false],
    ];
    for (const [output, environment, colored] of cases) {
      const shown = createTextStyle(output, environment)("red", "text");
      assert.equal(shown, colored ? "\u001b[31mtext\u001b[39m" : "text", JSON.stringify(environment));
    }
  });

  test("terminal is interactive without CI and with cursor movement", () => {
    assert.equal(isInteractive(terminal, {}), true);
    assert.equal(isInteractive(terminal, { CI: "false" }), true);
    assert.equal(isInteractive(terminal, { CI: "1" }), false);
    assert.equal(isInteractive(terminal, { TERM: "dumb" }), false);
    assert.equal(isInteractive(file, {}), false);
  });

  test("terminal keeps its last column free, and has 80 columns by default", () => {
    assert.equal(columnsOf(terminal), 79);
    assert.equal(columnsOf(file), 79);
    assert.equal(columnsOf(Object.assign(new PassThrough(), { columns: 0 })), 79);
  });

  test("trace is colored and fitted on a terminal and plain in a file", () => {
    const root = makeSpan({ name: "root", endMs: 10 });
    const spans = [root, makeSpan({ name: "below", service: "worker", parentSpanId: root.spanId, endMs: 10 })];
    const plain = `root       image-pipeline   10.0 ms  ${"█".repeat(30)}
└── below  worker           10.0 ms  ${"█".repeat(30)}
`;
    assert.equal(renderTrace(spans, { stdout: file, environment: {} }), plain);
    const colored = renderTrace(spans, { stdout: terminal, environment: {} });
    const lit = ["\u001b[36mimage-pipeline\u001b[39m", "\u001b[36m███", "\u001b[35mworker\u001b[39m", "\u001b[35m███"];
    assert.deepEqual(
      lit.map((text) => colored.split(text).length - 1),
      [1, 1, 1, 1],
    );
    const lines = renderTrace(spans, { stdout: terminal, environment: { NO_COLOR: "1" } })
      .trimEnd()
      .split("\n");
    assert.deepEqual(
      lines.map(({ length }) => length),
      [79, 79],
    );
  });
});

test("JSON line contains no terminal control characters and parses to the same value", () => {
  const value = { name: "\u001b[31m\u009b31m\u202e\u2028\r\n\u200b\ufeff\u{e0041}", 愛: ["é", "😀", '"\\'] };
  const line = jsonLine(value);
  assert.match(line, /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]*\n$/u);
  assert.ok(line.includes("愛") && line.includes("😀"));
  assert.deepEqual(JSON.parse(line), value);
});
