import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { after, describe, it, type TestContext } from "node:test";
import { type EngineProcess, startEngineProcess } from "../../../src/engine/child/engine-process.js";
import { createWatchdog } from "../../../src/engine/child/generate-in-process.js";
import type { GenerationEvent, GenerationRequest } from "../../../src/engine/engine.js";
import { makeSdxlFolder } from "../../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { testProgram } from "../../support/test-program.js";
import { generateOnce } from "../generate-once.js";

interface WatchedEngine {
  readonly engine: EngineProcess;
  /** UNet runs that began since the last call. */
  readonly takeUnetRuns: () => Promise<number>;
}

async function startWatched(options: { readonly unetWork: number; readonly gated: boolean }): Promise<WatchedEngine> {
  const modelFolder = await makeSdxlFolder(join(await temporaryFolder(), "model"), { unetWork: options.unetWork });
  if (options.gated) {
    await writeFile(join(modelFolder, "gate"), "");
  }
  const engine = await startEngineProcess({ modelFolder, program: testProgram("./gated-program", import.meta.url) });
  after(() => engine.stop({ graceMs: 0 }));
  const record = join(modelFolder, "unet-runs");
  const takeUnetRuns = async () => {
    const lines = (await readFile(record, "utf8")).trim().split("\n");
    await rm(record);
    return lines.length;
  };
  // Without the warm-up's runs.
  await takeUnetRuns();
  return { engine, takeUnetRuns };
}

const cat: GenerationRequest = { prompt: "a cat", seed: 1, steps: 50 };
/** Of {@link cat}: each step is one run with guidance and without it. */
const everyRun = 50;
/** One UNet run. It begins when the process has let go of the image before. */
const short: GenerationRequest = { prompt: "a cat", seed: 1, steps: 1, guidanceScale: 1 };

describe("engine process whose second UNet run waits for a cancel", async () => {
  const { engine, takeUnetRuns } = await startWatched({ unetWork: 0, gated: true });

  it("engine process runs at most one more UNet step after an abort and throws the signal's reason", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    const { signal } = controller;
    const onEvent = ({ kind }: GenerationEvent) => void (kind === "step" && controller.abort(reason));
    await assert.rejects(engine.generate(cat, { signal, onEvent }), reason);
    await generateOnce(engine, short);
    const runs = (await takeUnetRuns()) - 1;
    assert.ok(runs === 1 || runs === 2, `${runs} runs`);
  });

  it("engine process is killed when it does not exit on request", async () => {
    process.kill(engine.pid, "SIGSTOP");
    await engine.stop({ graceMs: 100 });
    assert.equal(await engine.exited, "signal SIGKILL");
  });
});

describe("engine process with a slow model", async () => {
  const { engine, takeUnetRuns } = await startWatched({ unetWork: 40, gated: false });

  it("engine process handles a cancel between two runs", async () => {
    const controller = new AbortController();
    const { signal } = controller;
    const onEvent = ({ kind }: GenerationEvent) => void (kind === "step" && controller.abort());
    await assert.rejects(engine.generate(cat, { signal, onEvent }), /aborted/);
    await generateOnce(engine, short);
    const runs = (await takeUnetRuns()) - 1;
    // That a cancel which has come in stops the very next run is the other model's matter. This one waits for none, so a cancel that was
    // not heard between two runs would come after the last.
    assert.ok(runs >= 1 && runs < everyRun, `${runs} runs`);
  });

  it("engine process exits on request, also during an image", async () => {
    const { signal } = new AbortController();
    const onEvent = (event: GenerationEvent) =>
      void (event.kind === "step" && event.step === 1 && engine.stop({ graceMs: 60_000 }));
    await assert.rejects(engine.generate(cat, { signal, onEvent }), { name: "GenerationError", kind: "lost" });
    assert.equal(await engine.exited, "exit code 0");
  });
});

describe("watchdog", () => {
  /** A watch on its own clock: 600 ms for an image of up to 1024². */
  function watched(t: TestContext) {
    let now = 0;
    const stalls: string[] = [];
    t.mock.timers.enable({ apis: ["setTimeout"] });
    t.mock.method(performance, "now", () => now);
    const watch = createWatchdog({ stallMs: 600, onStall: (reason) => stalls.push(reason) });
    const pass = (ms: number) => {
      now += ms;
      t.mock.timers.tick(ms);
      return stalls.length;
    };
    return { watch, pass, stalls };
  }

  test("watchdog restarts its time at each event and stops at the end", (t) => {
    const { watch, pass } = watched(t);
    watch.begin();
    assert.equal(pass(599), 0);
    watch.event();
    // It has taken 599 ms for one event, so ten times as long is no stall.
    assert.equal(pass(5_989), 0);
    watch.end();
    assert.equal(pass(1_000_000), 0);
  });

  test("watchdog reports a stall after too long without an event", (t) => {
    const { watch, pass, stalls } = watched(t);
    watch.begin();
    watch.event({ width: 1024, height: 1024 });
    assert.equal(pass(10), 0);
    watch.event();
    assert.equal(pass(600), 1);
    assert.deepEqual(stalls, ["no progress for 600 ms"]);
  });

  test("watchdog allows more time for a larger image", (t) => {
    const { watch, pass } = watched(t);
    watch.begin();
    watch.event({ width: 2048, height: 2048 });
    assert.equal(pass(16 * 600 - 1), 0);
    assert.equal(pass(1), 1);
  });

  test("watchdog allows more time on a machine that was slow before", (t) => {
    const { watch, pass } = watched(t);
    watch.begin();
    watch.event({ width: 2048, height: 2048 });
    pass(16 * 100);
    watch.event();
    watch.end();
    watch.begin();
    watch.event({ width: 512, height: 512 });
    assert.equal(pass(999), 0);
    assert.equal(pass(1), 1);
  });
});
