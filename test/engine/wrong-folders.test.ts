import assert from "node:assert/strict";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ModelFolderError } from "../../src/engine/folder-reader.js";
import { loadSdxlEngine } from "../../src/engine/sdxl-engine.js";
import { makeSdxlFolder } from "../fixtures/sdxl-folder.js";
import { temporaryFolder } from "../fixtures/temporary-folder.js";

/** Folders that users mistake for SDXL folders. Each error names the file, the expectation and the finding. */
const mistakes: readonly [what: string, make: (folder: string) => Promise<void>, fault: RegExp][] = [
  [
    "diffusers' own folder, with PyTorch weights",
    async (folder) => {
      for (const part of ["text_encoder", "text_encoder_2", "unet"]) {
        await rm(join(folder, part, "model.onnx"));
        await writeFile(join(folder, part, "diffusion_pytorch_model.fp16.safetensors"), Buffer.alloc(4096));
      }
      await rm(join(folder, "vae_decoder/model.onnx"));
      await rename(join(folder, "vae_decoder"), join(folder, "vae"));
    },
    /^text_encoder\/config\.json: expected number at "num_attention_heads", found nothing$/,
  ],
  [
    "an ONNX folder of Stable Diffusion 1.5",
    async (folder) => {
      await writeFile(join(folder, "model_index.json"), '{"_class_name": "OnnxStableDiffusionPipeline"}');
      await rm(join(folder, "text_encoder_2"), { recursive: true });
      await rm(join(folder, "tokenizer_2"), { recursive: true });
    },
    /^model_index\.json: expected "_class_name" of an SDXL pipeline, .*, found OnnxStableDiffusionPipeline$/,
  ],
  [
    "a clone without Git LFS, its graphs",
    (folder) => writeFile(join(folder, "unet/model.onnx"), lfsPointer),
    /^unet\/model\.onnx: expected the file itself, found a pointer of Git LFS \(run `git lfs pull`/,
  ],
  [
    "a clone without Git LFS, its weights",
    (folder) => writeFile(join(folder, "unet/model.onnx_data"), lfsPointer),
    /^unet\/model\.onnx_data: expected the file itself, found a pointer of Git LFS/,
  ],
  [
    "a truncated graph",
    async (folder) => {
      const file = join(folder, "vae_decoder/model.onnx");
      const bytes = await readFile(file);
      await writeFile(file, bytes.subarray(0, bytes.length - 50));
    },
    /^vae_decoder\/model\.onnx: expected a graph that onnxruntime loads, found .*(?:Protobuf parsing failed|ModelProto)/,
  ],
  [
    "a graph without the weights beside it",
    (folder) => rm(join(folder, "unet/model.onnx_data")),
    /^unet\/model\.onnx: expected a graph that onnxruntime loads, found .*model\.onnx_data/,
  ],
  [
    "truncated weights",
    async (folder) => {
      const file = join(folder, "unet/model.onnx_data");
      const bytes = await readFile(file);
      await writeFile(file, bytes.subarray(0, bytes.length - 5000));
    },
    /^unet\/model\.onnx: expected a graph that onnxruntime loads, found .*External initializer: .* out of bounds/,
  ],
  [
    "an unreadable configuration",
    async (folder) => {
      await rm(join(folder, "unet/config.json"));
      await mkdir(join(folder, "unet/config.json"));
    },
    /^unet\/config\.json: expected a readable file, found EISDIR/,
  ],
  [
    "an empty folder",
    async (folder) => {
      await rm(folder, { recursive: true });
      await mkdir(folder);
    },
    /^model_index\.json: expected a file, found none$/,
  ],
];

const lfsPointer = `version https://git-lfs.github.com/spec/v1\noid sha256:${"0".repeat(64)}\nsize 10265846332\n`;

describe("invalid SDXL folder", () => {
  for (const [what, spoil, fault] of mistakes) {
    it(`${what} is rejected with a ModelFolderError`, async () => {
      const folder = await makeSdxlFolder(join(await temporaryFolder(), "model"), { dataFile: "model.onnx_data" });
      await spoil(folder);
      await assert.rejects(loadSdxlEngine({ modelFolder: folder }), (error) => {
        assert.ok(error instanceof ModelFolderError, String(error));
        const { file, expected, found } = error.fault;
        assert.match(`${file}: expected ${expected}, found ${found}`, fault);
        assert.ok(error.message.startsWith(`model folder ${folder}: ${file}: `));
        return true;
      });
    });
  }
});
