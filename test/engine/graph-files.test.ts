import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, it } from "node:test";
import type { ExecutionProvider } from "../../src/engine/device.js";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { chooseGraphs, type Precision, subModelFolders } from "../../src/engine/graph-files.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

const plain = subModelFolders.map((folder) => `${folder}/model.onnx`);
const half = subModelFolders.map((folder) => `${folder}/model_fp16.onnx`);
const [halfUnet = "", plainDecoder = ""] = [half[2], plain[3]];

/** What is chosen of a folder of empty files: their names alone decide. */
async function choose(
  files: readonly string[],
  options: { readonly provider: ExecutionProvider; readonly precision?: Precision; readonly forceUpcast?: boolean },
): Promise<string[]> {
  const path = await temporaryFolder();
  for (const file of files) {
    await mkdir(join(path, dirname(file)), { recursive: true });
    await writeFile(join(path, file), "");
  }
  const { provider, precision = "auto", forceUpcast = true } = options;
  return Object.values(await chooseGraphs({ path, vae: { force_upcast: forceUpcast } }, { provider, precision }));
}

describe("chooseGraphs", () => {
  const both = [...plain, ...half];
  const mixed = [...half.slice(0, 3), plainDecoder];

  it("chooseGraphs uses half precision on a GPU and the plain export on the CPU", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda", forceUpcast: false }), half);
    assert.deepEqual(await choose(both, { provider: "webgpu", forceUpcast: false }), half);
    assert.deepEqual(await choose(both, { provider: "cpu", forceUpcast: false }), plain);
  });

  it("chooseGraphs keeps a VAE that overflows in float32 beside a half-precision UNet", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda" }), mixed);
    assert.deepEqual(await choose(both, { provider: "cpu", precision: "float16" }), mixed);
    assert.deepEqual(await choose(half, { provider: "cuda" }), half);
  });

  it("chooseGraphs uses the other precision when only one exists", async () => {
    assert.deepEqual(await choose(half, { provider: "cpu" }), half);
    assert.deepEqual(await choose(plain, { provider: "cuda" }), plain);
    const expected = [plain[0], plain[1], halfUnet, plainDecoder];
    assert.deepEqual(await choose([...plain, halfUnet], { provider: "cuda" }), expected);
  });

  it("chooseGraphs follows the requested precision or names the missing file", async () => {
    assert.deepEqual(await choose(both, { provider: "cuda", precision: "float32" }), plain);
    const missing = (file: string) => (error: unknown) =>
      error instanceof ModelFolderError && error.fault.file === file;
    await assert.rejects(choose(half, { provider: "cuda", precision: "float32" }), missing("text_encoder/model.onnx"));
    await assert.rejects(choose(plain, { provider: "cpu", precision: "float16" }), missing("unet/model_fp16.onnx"));
    await assert.rejects(choose(plain.slice(0, 2), { provider: "cpu" }), missing("unet/model.onnx"));
  });
});
