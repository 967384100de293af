import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { suite, type TestContext, test } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { createProgress, type Progress, showQueued, showStage } from "../../src/cli/terminal/progress.js";
import { ProgressSchema, QueuedSchema, Stage } from "../../src/gen/throughline/v1/image_pb.js";
import { createFakeTerminal, type FakeTerminal } from "./support/fake-terminal.js";

const staged = (progress: Progress, stage: Stage, step = 0, totalSteps = 0) =>
  showStage(progress, create(ProgressSchema, { stage, step, totalSteps }));
const queued = (progress: Progress, position: number, estimatedWaitMs = 0) =>
  showQueued(progress, create(QueuedSchema, { position, estimatedWaitMs }));

/** What is written while one request runs. */
function write(output: PassThrough, environment: Readonly<Record<string, string>>, quiet = false): string {
  const progress = createProgress({ stderr: output, environment }, quiet);
  progress.phase("starting the services");
  queued(progress, 2);
  queued(progress, 0);
  staged(progress, Stage.TEXT_ENCODING);
  staged(progress, Stage.DENOISING, 0, 2);
  staged(progress, Stage.DENOISING, 2, 2);
  staged(progress, Stage.VAE_DECODE);
  staged(progress, Stage.UPLOAD);
  progress.above(() => output.write("a warning\n"));
  progress.end();
  progress.end();
  progress.phase("too late");
  return String(output.read() ?? "");
}

const file = () => new PassThrough({ encoding: "utf8" });
const terminalStream = () => Object.assign(file(), { isTTY: true, columns: 80 });

const linesOfOneRequest = `starting the services
waiting behind 2
waiting, next in line
encoding the prompt
denoising
decoding the image
storing the image
a warning
`;

/** A bar on a terminal, with a clock that a test moves. */
function startBar(t: TestContext, columns = 80) {
  t.mock.timers.enable({ apis: ["Date", "setInterval", "setTimeout"], now: 1_000_000 });
  const terminal = createFakeTerminal(columns);
  const progress = createProgress({ stderr: terminal, environment: { TERM: "xterm" } }, false);
  return { terminal, progress, pass: (ms: number) => t.mock.timers.tick(ms) };
}

/** What a person sees, with a star for any frame of a spinner. */
const screen = (terminal: FakeTerminal) => terminal.screen().map((line) => line.replace(/ [⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏]/, " *"));

suite("progress", () => {
  test("progress is one line per phase without an interactive terminal", () => {
    assert.equal(write(file(), {}), linesOfOneRequest);
    assert.equal(write(terminalStream(), { TERM: "dumb" }), linesOfOneRequest);
    assert.equal(write(terminalStream(), { TERM: "xterm", CI: "true" }), linesOfOneRequest);
  });

  test("progress is silent when quiet", () => {
    assert.equal(write(terminalStream(), {}, true), "a warning\n");
    assert.equal(write(file(), {}, true), "a warning\n");
  });

  test("progress is a bar on a terminal, with stage, step and estimated time left", (t) => {
    const { terminal, progress, pass } = startBar(t);
    progress.phase("starting the services");
    assert.deepEqual(screen(terminal), ["starting the services  *"]);
    pass(3000);
    assert.deepEqual(screen(terminal), [`starting the services  *  3 s`]);
    staged(progress, Stage.DENOISING, 0, 20);
    pass(50);
    assert.deepEqual(screen(terminal), [`denoising              ${"░".repeat(24)}  step 0 of 20`]);
    pass(3950);
    staged(progress, Stage.DENOISING, 2, 20);
    pass(50);
    assert.deepEqual(screen(terminal), [`denoising              ██${"░".repeat(22)}  step 2 of 20  36 s left`]);
    // It goes by between two steps, and never below nothing.
    pass(1000);
    assert.match(screen(terminal)[0] ?? "", /step 2 of 20 {2}35 s left$/);
    pass(60_000);
    assert.match(screen(terminal)[0] ?? "", /step 2 of 20$/);
    // The newest ten steps count: here a second each.
    for (let step = 3; step <= 15; step++) {
      pass(1000);
      staged(progress, Stage.DENOISING, step, 20);
    }
    pass(50);
    assert.match(screen(terminal)[0] ?? "", /step 15 of 20 {2}5 s left$/);
    staged(progress, Stage.DENOISING, 20, 20);
    staged(progress, Stage.VAE_DECODE);
    pass(50);
    assert.deepEqual(screen(terminal), [`decoding the image     ${"█".repeat(24)}  step 20 of 20`]);
    progress.end();
    progress.phase("too late");
    pass(10_000);
    assert.deepEqual(screen(terminal), []);
  });

  test("progress shows the worker's estimate while waiting, and a download's unit", (t) => {
    const { terminal, progress, pass } = startBar(t);
    queued(progress, 3, 125_000);
    pass(50);
    assert.deepEqual(screen(terminal), ["waiting behind 3       *  2 min 5 s left"]);
    pass(65_000);
    assert.match(screen(terminal)[0] ?? "", / {2}1 min left$/);
    progress.phase("downloading the model");
    progress.step(5, 10, "MiB");
    pass(50);
    assert.deepEqual(screen(terminal), [`downloading the model  ${"█".repeat(12)}${"░".repeat(12)}  5 of 10 MiB`]);
    // Which is not a request's.
    progress.phase("starting the services");
    pass(50);
    assert.deepEqual(screen(terminal), ["starting the services  *"]);
    progress.end();
  });

  test("progress fits a terminal of any width, also when it changes, and keeps the lines above", (t) => {
    const { terminal, progress, pass } = startBar(t);
    terminal.write("$ throughline\n");
    staged(progress, Stage.DENOISING, 0, 20);
    pass(2000);
    staged(progress, Stage.DENOISING, 2, 20);
    pass(50);
    const wide = screen(terminal);
    for (const [columns, line] of [
      [60, `denoising              █${"░".repeat(10)}  step 2 of 20  18 s left`],
      [40, "denoising  step 2 of 20  18 s left"],
      [30, "denoising  step 2 of 20"],
      [20, "denoising"],
      [80, wide[1]],
    ] as const) {
      terminal.resize(columns);
      assert.deepEqual(screen(terminal), ["$ throughline", line], `${columns} columns`);
    }
    terminal.resize(80);
    progress.above(() => terminal.write("a warning\n"));
    assert.deepEqual(screen(terminal), ["$ throughline", "a warning", wide[1]]);
    progress.end();
    assert.deepEqual(screen(terminal), ["$ throughline", "a warning"]);
  });

  test("progress redraws at a limited rate and changes no terminal mode", (t) => {
    const { terminal, progress, pass } = startBar(t);
    for (let step = 0; step <= 1000; step++) {
      staged(progress, Stage.DENOISING, step, 1000);
      pass(1);
    }
    const drawn = terminal.written().split("denoising").length - 1;
    assert.ok(drawn > 10 && drawn <= 22, `drawn ${drawn} times in a second`);
    progress.end();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: terminals are steered by them.
    assert.doesNotMatch(terminal.written(), /\u001b\[\?(?!2026)|\u001b[78]/);
    // Synchronized output ends with each write.
    assert.equal(terminal.written().split("\u001b[?2026h").length, terminal.written().split("\u001b[?2026l").length);
    assert.deepEqual(screen(terminal), []);
  });

  test("progress shows `working` for an unknown stage of a newer pipeline", () => {
    const output = file();
    const progress = createProgress({ stderr: output, environment: {} }, false);
    // Progress { stage: 99 }
    showStage(progress, fromBinary(ProgressSchema, Uint8Array.of(0x08, 99)));
    assert.equal(output.read(), "working\n");
  });
});
