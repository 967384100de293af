import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { createRequestsDisplay } from "../../src/cli/terminal/requests-view.js";
import { ProgressSchema, QueuedSchema, Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { makeSpan } from "../support/make-span.js";
import { createFakeTerminal, type FakeTerminal } from "./support/fake-terminal.js";

const environment = { TERM: "xterm", NO_COLOR: "1" };
const request = (id: string, method = "GenerateStream") => ({
  traceId: id.repeat(16),
  method,
  startUnixNano: 5_000_000n,
});
const [first, second] = [request("a1"), request("b2", "Generate")];
const spans = [makeSpan({ traceId: first.traceId, name: "root", endMs: 1500 })];
const ended = (of: typeof first, statusCode = "OK") => ({ ...of, statusCode, durationMs: 1500, spans });
const denoising = (step: number) => create(ProgressSchema, { stage: Stage.DENOISING, step, totalSteps: 20 });
const file = () => new PassThrough({ encoding: "utf8" });

/** Both streams are one terminal, as in a shell. */
function startDisplay(t: TestContext, columns = 79) {
  t.mock.timers.enable({ apis: ["Date", "setInterval", "setTimeout"], now: 1_000_000 });
  const terminal = createFakeTerminal(columns + 1);
  const streams = { stdout: terminal, stderr: terminal, environment };
  const display = createRequestsDisplay(streams, { json: false, quiet: false });
  return { terminal, display, pass: (ms: number) => t.mock.timers.tick(ms) };
}

/** What a person sees, with a star for any frame of a spinner. */
const screen = (terminal: FakeTerminal) => terminal.screen().map((line) => line.replace(/ [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]/, " *"));

suite("requests view", () => {
  test("running requests have a line each, below ended ones and the services' log", (t) => {
    const { terminal, display, pass } = startDisplay(t);
    terminal.write("the services' URLs\n");
    display.began(first);
    display.began(second);
    display.queued(first, create(QueuedSchema, { position: 1, estimatedWaitMs: 4000 }));
    pass(50);
    assert.deepEqual(screen(terminal), [
      "the services' URLs",
      `a1a1a1a1  waiting behind 1       *  4 s left`,
      `b2b2b2b2  running                *`,
    ]);
    display.progress(first, denoising(0));
    pass(1000);
    display.progress(first, denoising(10));
    display.above(() => terminal.write("a log's line\n"));
    assert.deepEqual(screen(terminal), [
      "the services' URLs",
      "a log's line",
      `a1a1a1a1  denoising              ${"█".repeat(11)}${"░".repeat(10)}  step 10 of 20  1 s left`,
      `b2b2b2b2  running                *  2 s`,
    ]);
    display.answered(first);
    display.ended(first, ended(first));
    const above = [
      "the services' URLs",
      "a log's line",
      `GenerateStream  OK  1.50 s  trace ${first.traceId}`,
      `root  image-pipeline    1.50 s  ${"█".repeat(47)}`,
      "",
    ];
    assert.deepEqual(screen(terminal), [...above, `b2b2b2b2  running                *  2 s`]);
    display.end();
    assert.deepEqual(screen(terminal), above.slice(0, -1));
    display.above(() => terminal.write("a last line\n"));
    assert.deepEqual(screen(terminal).at(-1), "a last line");
  });

  test("running requests fit a narrow terminal, however many there are", (t) => {
    const { terminal, display, pass } = startDisplay(t, 30);
    const requests = Array.from({ length: 30 }, (_, i) => request(String(10 + i)));
    for (const running of requests) {
      display.began(running);
      display.progress(running, denoising(1));
    }
    pass(50);
    const lines = screen(terminal);
    assert.equal(lines.length, 9);
    assert.equal(lines[0], "10101010  denoising");
    assert.equal(lines.at(-1), "and 22 more");
    display.end();
    assert.deepEqual(screen(terminal), []);
  });

  test("ended requests are one line each without a terminal, and one JSON line with --json", () => {
    for (const [how, expected] of [
      [
        { json: false, quiet: false },
        /^GenerateStream {2}OK {2}1\.50 s {2}trace (?:a1){16}\nGenerate {2}CANCELLED {2}.*\n$/,
      ],
      [{ json: true, quiet: false }, undefined],
      [{ json: false, quiet: true }, /^$/],
    ] as const) {
      const [stdout, stderr] = [file(), how.json ? Object.assign(file(), { isTTY: true }) : file()];
      const display = createRequestsDisplay({ stdout, stderr, environment: { TERM: "xterm" } }, how);
      display.began(first);
      display.queued(first, create(QueuedSchema, { position: 0 }));
      display.progress(first, denoising(1));
      display.answered(first);
      display.ended(first, ended(first));
      display.ended(second, ended(second, "CANCELLED"));
      display.above(() => stderr.write("a log's line\n"));
      display.end();
      assert.equal(stderr.read(), "a log's line\n");
      const text = String(stdout.read() ?? "");
      if (expected !== undefined) {
        assert.match(text, expected);
        continue;
      }
      const lines = text.trimEnd().split("\n");
      assert.equal(lines.length, 2);
      const { spans: printedSpans, ...rest } = JSON.parse(lines[0] ?? "");
      assert.deepEqual(rest, {
        kind: "request",
        traceId: first.traceId,
        method: "GenerateStream",
        statusCode: "OK",
        startedAt: "1970-01-01T00:00:00.005Z",
        durationMs: 1500,
      });
      assert.equal(printedSpans[0].name, "root");
    }
  });
});
