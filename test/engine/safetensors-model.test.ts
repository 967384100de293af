import assert from "node:assert/strict";
import { chmod, rename } from "node:fs/promises";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { loadSdxlEngine, type SdxlEngine } from "../../src/engine/sdxl-engine.js";
import { putIntoHubCache } from "../fixtures/hub-cache.js";
import { graphGoldens, makeSafetensorsFolder, makeSingleFile } from "../fixtures/safetensors-model.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";
import { generateOnce, generationEvents, psnr } from "./generate-once.js";
import { sharedSessions } from "./shared-sessions.js";

/*
 * Whole images against diffusers' StableDiffusionXLPipeline on the same weights. Opening the UNet takes most of the time: each of the two
 * kinds of files is opened once, and only the engine is another in each test.
 */

const request = { prompt: "a red apple", negativePrompt: "blue", width: 64, height: 128, seed: 42 };

const folders = sharedSessions();
const singleFiles = sharedSessions();
after(async () => {
  await folders.release();
  await singleFiles.release();
});

async function load(modelFolder: string, { openSession } = singleFiles): Promise<SdxlEngine> {
  const engine = await loadSdxlEngine({ modelFolder, openSession });
  after(() => engine.release());
  return engine;
}

async function likeness(engine: SdxlEngine, golden: "image" | "v_prediction" | "zero_snr"): Promise<number> {
  const steps = golden === "image" ? 6 : 4;
  const { pixels } = await generateOnce(engine, { ...request, steps, guidanceScale: 5 });
  return psnr(pixels.data, Buffer.from(graphGoldens[golden].pixels, "base64"));
}

describe("safetensors model", async () => {
  const home = await temporaryFolder();

  it("diffusers folder of safetensors gives diffusers' image, also read-only, from the Hub cache and under a non-ASCII name", async () => {
    const folder = await makeSafetensorsFolder(join(home, "größe 日本 xl"), { type: "F16", variant: "fp16" });
    const snapshot = await putIntoHubCache(folder, join(home, "hub cache 日本"), "acme/tiny-xl");
    await chmod(folder, 0o555);
    // The first is the one whose files are opened: links, under a non-ASCII name.
    for (const path of [snapshot, folder]) {
      const engine = await load(path, folders);
      assert.ok((await likeness(engine, "image")) >= 60);
      assert.equal(engine.info.model, path === folder ? "größe 日本 xl" : "acme/tiny-xl");
      assert.deepEqual(engine.graphs.unet, "unet/diffusion_pytorch_model.fp16.safetensors");
      assert.deepEqual(engine.notes.assumptions, []);
    }
    await chmod(folder, 0o755);
  });

  it("single file gives diffusers' image with SDXL's configurations and CLIP's tokenizer", async () => {
    const engine = await load(await makeSingleFile(join(home, "my checkpoint.safetensors"), { type: "BF16" }));
    assert.ok((await likeness(engine, "image")) >= 60);
    assert.equal(engine.info.model, "my checkpoint");
    assert.match(
      engine.notes.assumptions.join(),
      /^my checkpoint\.safetensors brings no configuration: SDXL's own is taken$/,
    );
    const { limits } = engine.info;
    assert.deepEqual([limits.defaultGuidanceScale, limits.schedulers["euler-discrete"]?.defaultSteps], [5, 50]);
  });

  it("single file with the tensors v_pred and ztsnr predicts v from pure noise, like diffusers", async () => {
    const flag = { shape: [0], values: new Float32Array(0) };
    const velocity = await makeSingleFile(join(home, "v.safetensors"), {
      type: "F16",
      change: (tensors) => tensors.set("v_pred", flag),
    });
    assert.ok((await likeness(await load(velocity), "v_prediction")) >= 60);
    const zero = await makeSingleFile(join(home, "ztsnr.safetensors"), {
      type: "F16",
      change: (tensors) => tensors.set("v_pred", flag).set("ztsnr", flag),
    });
    const engine = await load(zero);
    assert.ok((await likeness(engine, "zero_snr")) >= 60);
    assert.match(engine.notes.assumptions.join(), /with v-prediction and zero terminal SNR$/);
  });

  it("single file of a distilled model, by its name, has that kind's scheduler, steps and guidance", async () => {
    const file = await makeSingleFile(join(home, "base.safetensors"), { type: "F16" });
    const kinds = [
      ["dreamshaperXL_turbo.safetensors", "euler-ancestral", 4, 0],
      ["sdxl_lightning_8step.safetensors", "euler-discrete", 8, 0],
      ["acme-xl-lcm.safetensors", "lcm", 4, 1],
    ] as const;
    let path = file;
    for (const [name, scheduler, steps, guidanceScale] of kinds) {
      await rename(path, join(home, name));
      path = join(home, name);
      const engine = await load(path);
      const [settings] = await generationEvents(engine, { prompt: "a", seed: 1, width: 32, height: 32 });
      assert.ok(settings?.kind === "settings");
      const { settings: taken } = settings;
      assert.deepEqual([taken.scheduler, taken.steps, taken.guidanceScale], [scheduler, steps, guidanceScale]);
      assert.match(engine.notes.defaults ?? "", new RegExp(`^${steps} steps at guidance ${guidanceScale}: its name`));
    }
  });
});
