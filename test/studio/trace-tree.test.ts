import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, formatTrace, printable } from "../../src/studio/trace-text.js";
import { buildTraceTree, type TraceNode, traceToJson } from "../../src/studio/trace-tree.js";
import { makeSpan } from "../support/make-span.js";

const worker = "text-to-image-worker";
const root = makeSpan({ name: "image-pipeline", kind: "SERVER", endMs: 1530, attributes: { a: 1 } });
const preprocess = makeSpan({ name: "preprocess-prompt", parentSpanId: root.spanId, endMs: 0.41 });
const call = makeSpan({
  name: "call-inference-worker",
  kind: "CLIENT",
  parentSpanId: root.spanId,
  startMs: 10,
  endMs: 1530,
});
const inference = makeSpan({
  name: "inference",
  kind: "SERVER",
  service: worker,
  parentSpanId: root.spanId,
  startMs: 10,
  endMs: 1510,
});
const diffusion = makeSpan({
  name: "diffusion",
  service: worker,
  parentSpanId: inference.spanId,
  startMs: 12,
  endMs: 1400,
});
const upload = makeSpan({
  name: "upload",
  service: worker,
  parentSpanId: inference.spanId,
  startMs: 1400,
  endMs: 1410,
});
const trace = [upload, diffusion, inference, call, preprocess, root];

/** Names with those below them, as nested arrays. */
function names(nodes: readonly TraceNode[]): unknown[] {
  return nodes.flatMap(({ span, children }) => (children.length === 0 ? [span.name] : [span.name, names(children)]));
}

test("trace tree is the same for any order of spans", () => {
  const expected = [
    "image-pipeline",
    ["preprocess-prompt", "call-inference-worker", "inference", ["diffusion", "upload"]],
  ];
  assert.deepEqual(names(buildTraceTree(trace)), expected);
  assert.deepEqual(names(buildTraceTree(trace.toReversed())), expected);
});

test("trace tree as text is to scale", () => {
  assert.equal(
    formatTrace(trace, { barWidth: 20 }),
    [
      "image-pipeline             image-pipeline          1.53 s  ████████████████████",
      "├── preprocess-prompt      image-pipeline         0.41 ms  ▏",
      "├── call-inference-worker  image-pipeline          1.52 s  ████████████████████",
      "└── inference              text-to-image-worker    1.50 s  ████████████████████",
      "    ├── diffusion          text-to-image-worker    1.39 s  ██████████████████",
      "    └── upload             text-to-image-worker   10.0 ms                    ▏",
    ].join("\n"),
  );
});

test("trace tree in few columns drops the services, then the bars, and then cuts names", () => {
  const shown = (columns: number) => formatTrace(trace, { columns }).split("\n");
  assert.equal(shown(79)[0], `image-pipeline             image-pipeline          1.53 s  ${"█".repeat(20)}`);
  assert.equal(shown(200)[0], `image-pipeline             image-pipeline          1.53 s  ${"█".repeat(60)}`);
  assert.equal(shown(60)[3], `└── inference                1.50 s  ${"█".repeat(23)}`);
  assert.equal(shown(40)[2], "├── call-inference-worker    1.52 s");
  assert.equal(shown(30)[2], "├── call-inference-…    1.52 s");
  for (const columns of [20, 30, 39, 40, 60, 79]) {
    assert.ok(
      shown(columns).every(({ length }) => length <= columns),
      `${columns} columns`,
    );
  }
});

test("trace tree has a color for each service, red for failures and dim numbers", () => {
  const failed = { ...upload, status: { code: "ERROR", message: "INTERNAL" } } as const;
  const style = (format: string, text: string) => (text.trim() === "" ? text : `<${format} ${text.trim()}>`);
  assert.equal(
    formatTrace([root, failed, inference], { barWidth: 4, style }),
    [
      "image-pipeline  <cyan image-pipeline>        <dim 1.53 s>  <cyan ████>",
      "<dim └──>inference   <magenta text-to-image-worker>  <dim 1.50 s>  <magenta ████>",
      "<dim └──><red upload>  <magenta text-to-image-worker>  <dim 10.0 ms>  <red ▏>",
      "            <red ERROR INTERNAL>",
    ].join("\n"),
  );
});

test("trace tree with details shows attributes, and events with their time in the span", () => {
  const attributes = { "model.name": "x", list: ["a", "b"], steps: 2, "evil\u001b[2J": "two\nlines\u202e" };
  const events = [
    { name: "denoising", timeUnixNano: diffusion.startUnixNano + 12_000_000n, attributes: { "a.b": true } },
    { name: "\u001b]0;owned\u0007", timeUnixNano: diffusion.startUnixNano - 1n, attributes: {} },
  ];
  assert.equal(
    formatTrace([inference, { ...diffusion, attributes, events }, upload], { barWidth: 0, details: true }),
    [
      "inference      text-to-image-worker    1.50 s",
      "├── diffusion  text-to-image-worker    1.39 s",
      "│       model.name=x",
      '│       list=["a","b"]',
      "│       steps=2",
      "│       evil\ufffd[2J=two\ufffdlines\ufffd",
      "│       +12.0 ms  denoising  a.b=true",
      "│       +0.00 ms  \ufffd]0;owned\ufffd",
      "└── upload     text-to-image-worker   10.0 ms",
    ].join("\n"),
  );
});

test("running span has a bar to the end of the known time", () => {
  const running = { endUnixNano: 0n };
  assert.equal(
    formatTrace([{ ...root, ...running }, preprocess, { ...call, ...running }, upload], {
      barWidth: 4,
    }),
    [
      "image-pipeline             image-pipeline         running  ████",
      "├── preprocess-prompt      image-pipeline         0.41 ms  ▏",
      "└── call-inference-worker  image-pipeline         running  ████",
      "upload                     text-to-image-worker   10.0 ms     ▏",
    ].join("\n"),
  );
});

test("failed span shows its status", () => {
  const failed = { ...root, status: { code: "ERROR", message: "UNAVAILABLE" } } as const;
  assert.equal(
    formatTrace([failed], { barWidth: 4 }),
    "image-pipeline  image-pipeline    1.53 s  ████\n    ERROR UNAVAILABLE",
  );
});

test("spans outside the root's time are drawn at its edge", () => {
  const parentSpanId = root.spanId;
  const before = makeSpan({ name: "before", parentSpanId, startMs: -9000, endMs: -8000 });
  const after = makeSpan({ name: "after", parentSpanId, startMs: 8000, endMs: 9000 });
  const across = makeSpan({ name: "across", parentSpanId, startMs: -1000, endMs: 765 });
  const backwards = makeSpan({ name: "backwards", parentSpanId, startMs: 765, endMs: 0 });
  assert.equal(
    formatTrace([root, before, after, across, backwards], { barWidth: 4 }),
    [
      "image-pipeline  image-pipeline    1.53 s  ████",
      "├── before      image-pipeline    1.00 s  ▏",
      "├── across      image-pipeline    1.76 s  ██",
      "├── backwards   image-pipeline   0.00 ms    ▏",
      "└── after       image-pipeline    1.00 s     ▏",
    ].join("\n"),
  );
});

test("span without its parent is a root, and a later root does not hide the rest", () => {
  const orphans = [inference, diffusion, preprocess];
  assert.deepEqual(names(buildTraceTree(orphans)), ["preprocess-prompt", "inference", ["diffusion"]]);
});

test("parent cycles lose no span and end", () => {
  const one = makeSpan({ name: "one", spanId: "1".repeat(16), parentSpanId: "2".repeat(16) });
  const two = makeSpan({ name: "two", spanId: "2".repeat(16), parentSpanId: "1".repeat(16), endMs: 1 });
  const self = makeSpan({ name: "self", spanId: "3".repeat(16), parentSpanId: "3".repeat(16), endMs: 2 });
  assert.deepEqual(names(buildTraceTree([one, two, self, root])).flat(), ["image-pipeline", "one", "two", "self"]);
});

test("trace tree contains no control characters", () => {
  const rogue = makeSpan({ name: "\u001b[2Jwork\nmore", service: "\u202eevil", endMs: 1 });
  assert.equal(formatTrace([rogue], { barWidth: 1 }), "\ufffd[2Jwork\ufffdmore  \ufffdevil   1.00 ms  █");
});

test("long names, services and messages are cut", () => {
  const status = { code: "ERROR", message: "m".repeat(15_000_000) } as const;
  const long = makeSpan({ name: "n".repeat(15_000_000), service: "s".repeat(15_000_000), status });
  const others = Array.from({ length: 59 }, (_, i) => makeSpan({ name: `short${i}` }));
  const lines = formatTrace([long, ...others], { barWidth: 1 }).split("\n");
  assert.equal(lines.length, 61);
  assert.ok(lines.every(({ length }) => length < 500));
  assert.match(lines.find((line) => line.startsWith("n")) ?? "", /^n{119}… {2}s{119}… /);
});

test("chain of spans may be as long as a trace", () => {
  const id = (i: number) => i.toString(16).padStart(16, "0");
  const chain = Array.from({ length: 10_000 }, (_, i) =>
    makeSpan({ name: `span ${i}`, spanId: id(i + 1), parentSpanId: i === 0 ? "" : id(i), startMs: i }),
  );
  const text = formatTrace(chain);
  assert.ok(text.length < 10_000 * 500, `${text.length}`);
  const inOrder = chain.map(({ name }) => name);
  assert.deepEqual(
    text.split("\n").map((line) => /span \d+/.exec(line)?.[0]),
    inOrder,
  );
  assert.deepEqual(
    traceToJson(chain.toReversed()).spans.map(({ name }) => name),
    inOrder,
  );
});

test("trace without spans has no text", () => {
  assert.equal(formatTrace([]), "");
  assert.deepEqual(traceToJson([]), { spans: [] });
});

for (const [ns, expected] of [
  [0n, "0.00 ms"],
  [1_234n, "0.00 ms"],
  [9_994_000n, "9.99 ms"],
  [9_996_000n, "10.0 ms"],
  [99_960_000n, "100 ms"],
  [999_400_000n, "999 ms"],
  [999_600_000n, "1.00 s"],
  [65_432_000_000n, "65.4 s"],
  [3_600_000_000_000n, "3600 s"],
] as const) {
  test(`${ns} ns are ${expected}`, () => assert.equal(formatDuration(ns), expected));
}

test("trace as JSON has parents first and milliseconds with fractions", () => {
  const { spans } = traceToJson(trace);
  assert.deepEqual(
    spans.map(({ name }) => name),
    ["image-pipeline", "preprocess-prompt", "call-inference-worker", "inference", "diffusion", "upload"],
  );
  assert.deepEqual(spans[0], {
    name: "image-pipeline",
    service: "image-pipeline",
    kind: "SERVER",
    spanId: root.spanId,
    parentSpanId: "",
    durationMs: 1530,
    attributes: { a: 1 },
  });
  assert.equal(spans[1]?.durationMs, 0.41);
  assert.equal(JSON.parse(JSON.stringify({ spans })).spans.length, 6);
});

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
