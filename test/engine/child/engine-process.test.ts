import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { type EngineProcess, startEngineProcess } from "../../../src/engine/child/engine-process.js";
import { makeSdxlFolder, type SdxlFolderOptions } from "../../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../../fixtures/temporary-folder.js";
import { paintOnce } from "../paint-once.js";

/** Guided, one step: two. */
const warmUpRuns = 2;

interface GatedEngine {
  readonly engine: EngineProcess;
  /** When each UNet run of a picture began. */
  readonly unetRuns: () => Promise<number[]>;
}

async function startGated(options: SdxlFolderOptions & { readonly gate?: number }): Promise<GatedEngine> {
  const folder = await makeSdxlFolder(join(await temporaryFolder(), "model"), options);
  if (options.gate !== undefined) {
    await writeFile(join(folder, "gate"), `${warmUpRuns + options.gate}`);
  }
  const engine = await startEngineProcess({
    modelFolder: folder,
    program: new URL("./gated-program.ts", import.meta.url),
  });
  after(() => engine.stop({ graceMs: 0 }));
  const unetRuns = async () => {
    const lines = (await readFile(join(folder, "unet-runs"), "utf8")).trim().split("\n");
    return lines.slice(warmUpRuns).map(Number);
  };
  return { engine, unetRuns };
}

describe("engine process", () => {
  it("runs the UNet no more once a cancel has arrived, and throws the signal's reason", async () => {
    // The first run of step 2 waits for the cancel.
    const { engine, unetRuns } = await startGated({ gate: 3 });
    const controller = new AbortController();
    const reason = new Error("enough");
    await assert.rejects(async () => {
      for await (const event of engine.paint({ prompt: "cat", seed: 1, steps: 9 }, controller.signal)) {
        if (event.kind === "step") {
          controller.abort(reason);
        }
      }
    }, reason);
    // The next picture begins when the process has let go of that one.
    await paintOnce(engine, { prompt: "cat", seed: 1, steps: 1, guidanceScale: 1 });
    const runs = (await unetRuns()).length - 1;
    assert.ok(runs === 2 || runs === 3, `${runs} runs`);
  });

  it("takes a cancel in between the runs of a busy model", async () => {
    const { engine, unetRuns } = await startGated({ unetWork: 40 });
    const controller = new AbortController();
    let abortedAt = 0;
    await assert.rejects(async () => {
      for await (const event of engine.paint({ prompt: "cat", seed: 1, steps: 50 }, controller.signal)) {
        if (event.kind === "step" && event.step === 2) {
          abortedAt = Date.now();
          controller.abort();
        }
      }
    }, /aborted/);
    await paintOnce(engine, { prompt: "cat", seed: 1, steps: 1, guidanceScale: 1 });
    const runs = await unetRuns();
    // The last one is that of the picture after it.
    const late = runs.slice(0, -1).filter((began) => began > abortedAt);
    assert.ok(late.length <= 1, `${late.length} runs began after the abort`);
    assert.ok(runs.length < 50);
  });

  it("stops when the iteration is left, without a signal", async () => {
    const { engine, unetRuns } = await startGated({ gate: 3 });
    for await (const event of engine.paint({ prompt: "cat", seed: 1, steps: 9 }, new AbortController().signal)) {
      if (event.kind === "step") {
        break;
      }
    }
    await paintOnce(engine, { prompt: "cat", seed: 1, steps: 1, guidanceScale: 1 });
    const runs = (await unetRuns()).length - 1;
    assert.ok(runs === 2 || runs === 3, `${runs} runs`);
  });

  it("ends when it is asked to, in the middle of a picture too", async () => {
    const { engine } = await startGated({ unetWork: 10 });
    const { signal } = new AbortController();
    await assert.rejects(
      async () => {
        for await (const event of engine.paint({ prompt: "cat", seed: 1, steps: 100 }, signal)) {
          if (event.kind === "step" && event.step === 1) {
            void engine.stop({ graceMs: 60_000 });
          }
        }
      },
      { name: "PaintError", kind: "lost" },
    );
    assert.equal(await engine.exited, "exit code 0");
  });

  it("that does not end when it is asked to is killed", async () => {
    const { engine } = await startGated({});
    process.kill(engine.pid, "SIGSTOP");
    await engine.stop({ graceMs: 100 });
    assert.equal(await engine.exited, "signal SIGKILL");
  });
});
