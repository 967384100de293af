import assert from "node:assert/strict";
import { readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type EngineProcess, startEngineProcess } from "../../../src/engine/child/engine-process.js";
import type { PaintRequest } from "../../../src/engine/engine.js";
import { makeSdxlFolder } from "../../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { paintOnce } from "../paint-once.js";

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
  const engine = await startEngineProcess({ modelFolder, program: new URL("./gated-program.ts", import.meta.url) });
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

const cat: PaintRequest = { prompt: "a cat", seed: 1, steps: 50 };
/** Of {@link cat}: each step is one run with guidance and without it. */
const everyRun = 50;
/** One UNet run. It begins when the process has let go of the picture before. */
const short: PaintRequest = { prompt: "a cat", seed: 1, steps: 1, guidanceScale: 1 };

describe("engine process whose second UNet run waits for a cancel", async () => {
  const { engine, takeUnetRuns } = await startWatched({ unetWork: 0, gated: true });

  it("runs the UNet no more than once after an abort, and throws the signal's reason", async () => {
    const controller = new AbortController();
    const reason = new Error("enough");
    await assert.rejects(async () => {
      for await (const event of engine.paint(cat, controller.signal)) {
        if (event.kind === "step") {
          controller.abort(reason);
        }
      }
    }, reason);
    await paintOnce(engine, short);
    const runs = (await takeUnetRuns()) - 1;
    assert.ok(runs === 1 || runs === 2, `${runs} runs`);
  });

  it("does the same when the iteration is left", async () => {
    for await (const event of engine.paint({ ...cat, prompt: "a dog" }, new AbortController().signal)) {
      if (event.kind === "step") {
        break;
      }
    }
    await paintOnce(engine, short);
    const runs = (await takeUnetRuns()) - 1;
    assert.ok(runs === 1 || runs === 2, `${runs} runs`);
  });

  it("is killed when it does not end when asked to", async () => {
    process.kill(engine.pid, "SIGSTOP");
    await engine.stop({ graceMs: 100 });
    assert.equal(await engine.exited, "signal SIGKILL");
  });
});

describe("engine process with a slow model", async () => {
  const { engine, takeUnetRuns } = await startWatched({ unetWork: 40, gated: false });

  it("takes a cancel in between two runs", async () => {
    const controller = new AbortController();
    await assert.rejects(async () => {
      for await (const event of engine.paint(cat, controller.signal)) {
        if (event.kind === "step") {
          controller.abort();
        }
      }
    }, /aborted/);
    await paintOnce(engine, short);
    const runs = (await takeUnetRuns()) - 1;
    // That a cancel which has come in stops the very next run is the other model's matter. This one waits for none, so a cancel that was
    // not heard between two runs would come after the last.
    assert.ok(runs >= 1 && runs < everyRun, `${runs} runs`);
  });

  it("ends when it is asked to, in the middle of a picture too", async () => {
    await assert.rejects(
      async () => {
        for await (const event of engine.paint(cat, new AbortController().signal)) {
          if (event.kind === "step" && event.step === 1) {
            void engine.stop({ graceMs: 60_000 });
          }
        }
      },
      { name: "PaintError", kind: "lost" },
    );
    assert.equal(await engine.exited, "exit code 0");
  });
});
