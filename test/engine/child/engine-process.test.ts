import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type EngineProcess, startEngineProcess } from "../../../src/engine/child/engine-process.js";
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
