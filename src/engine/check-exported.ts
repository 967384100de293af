import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { ModelFolderError } from "./model-folder-error.js";

/*
 * What people give in place of an ONNX folder, said in their words: without these checks it is a file that is missing, or a graph that
 * cannot be parsed.
 */

/** @throws ModelFolderError when the path is no folder. */
export async function checkIsFolder(path: string): Promise<void> {
  const found = await stat(path).then(
    (entry) => (entry.isDirectory() ? undefined : "a file in place of the folder"),
    () => "no such folder",
  );
  if (found !== undefined) {
    throw new ModelFolderError(path, { file: "model_index.json", expected: "a file", found });
  }
}

/**
 * @param className pipeline that the model index names.
 * @throws ModelFolderError when the folder is another kind of model, holds the weights of another framework, or pointers in place of files.
 */
export async function checkIsExportedSdxl(path: string, className: string): Promise<void> {
  const fail = (file: string, expected: string, found: string): never => {
    throw new ModelFolderError(path, { file, expected, found });
  };
  const list = (folder: string): Promise<string[]> => readdir(join(path, folder)).catch((): string[] => []);

  // Stable Diffusion 1 and 2 have one text encoder.
  if (!className.includes("StableDiffusionXL") && (await list("text_encoder_2")).length === 0) {
    fail("model_index.json", '"_class_name" of an SDXL pipeline, such as StableDiffusionXLPipeline', className);
  }
  const unet = await list("unet");
  const weights = unet.find((name) => /\.(?:safetensors|bin|ckpt|msgpack)$/.test(name));
  if (weights !== undefined && !unet.some((name) => name.endsWith(".onnx"))) {
    const remedy =
      "export the model to ONNX, as with `optimum-cli export onnx`, or take a folder that holds the export";
    fail("unet/model.onnx", "an ONNX graph", `unet/${weights}, which is no ONNX (${remedy})`);
  }
  for (const folder of graphFolders) {
    for (const name of await list(folder)) {
      if (await isPointer(join(path, folder, name))) {
        fail(`${folder}/${name}`, "the file itself", "a pointer of Git LFS (run `git lfs pull` in the repository)");
      }
    }
  }
}

/** Folders with the large files of a model. */
const graphFolders = ["text_encoder", "text_encoder_2", "unet", "vae_decoder"];

const pointerStart = "version https://git-lfs.github.com/spec/";

/** A clone without Git LFS has such a text in place of each large file. */
async function isPointer(file: string): Promise<boolean> {
  const entry = await stat(file).catch(() => undefined);
  if (!entry?.isFile() || entry.size > 1024) {
    return false;
  }
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(pointerStart.length));
    return buffer.toString("latin1", 0, bytesRead) === pointerStart;
  } finally {
    await handle.close();
  }
}
