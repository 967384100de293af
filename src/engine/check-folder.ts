import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { ModelForm } from "./model-description.js";
import { ModelFolderError } from "./model-folder-error.js";
import { chooseWeightFile } from "./weights/diffusers-weights.js";

/*
 * What is given in place of an SDXL folder, named for what it is: without these checks it is a file that is missing, or a graph that
 * cannot be parsed.
 */

/** @throws ModelFolderError when the path is no folder. */
export async function checkIsFolder(path: string): Promise<void> {
  const found = await stat(path).then(
    (entry) => (entry.isDirectory() ? undefined : "neither a folder nor a file"),
    () => "no such folder",
  );
  if (found !== undefined) {
    throw new ModelFolderError(path, { file: "model_index.json", expected: "a file", found });
  }
}

/**
 * How the weights of a folder are stored; undefined where it has none. Safetensors come first where a folder has both: they are smaller
 * and open faster.
 */
export async function folderForm(path: string): Promise<ModelForm["kind"] | undefined> {
  const names = await list(path, "unet");
  if (chooseWeightFile(names, true) === undefined && (await hasGraphs(path))) {
    return "onnx";
  }
  return names.some(isWeights) ? "safetensors" : undefined;
}

async function hasGraphs(path: string): Promise<boolean> {
  const folders = await Promise.all(weightFolders.map((folder) => list(path, folder)));
  return folders.flat().some((name) => name.endsWith(".onnx"));
}

/**
 * @param className pipeline that the model index names.
 * @throws ModelFolderError when the folder is another kind of model, holds weights that the engine does not read, or pointers in place of
 * files.
 */
export async function checkIsSdxlFolder(
  path: string,
  className: string,
  form: ModelForm["kind"] | undefined,
): Promise<void> {
  const fail = (file: string, expected: string, found: string): never => {
    throw new ModelFolderError(path, { file, expected, found });
  };
  // Some tools give their exports other names; those of Stable Diffusion 1 and 2 have one text encoder.
  const misnamed = form === "onnx" && (await list(path, "text_encoder_2")).length > 0;
  if (!className.includes("StableDiffusionXL") && !misnamed) {
    fail("model_index.json", '"_class_name" of an SDXL pipeline, such as StableDiffusionXLPipeline', className);
  }
  if (className.includes("Img2Img") && (await list(path, "text_encoder")).length === 0) {
    fail("model_index.json", "a base model", "the SDXL refiner, which finishes images of a base model");
  }
  const weights = (await list(path, "unet")).find(isWeights);
  if (form === "safetensors" && weights !== undefined && !weights.endsWith(".safetensors")) {
    fail(
      "unet/diffusion_pytorch_model.safetensors",
      "a file",
      `unet/${weights} alone, which can hold programs (take the .safetensors form of the model)`,
    );
  }
  for (const folder of weightFolders) {
    for (const name of await list(path, folder)) {
      if (await isPointer(join(path, folder, name))) {
        fail(`${folder}/${name}`, "the file itself", "a pointer of Git LFS (run `git lfs pull` in the repository)");
      }
    }
  }
}

/** Folders with the large files of a model. */
const weightFolders = ["text_encoder", "text_encoder_2", "unet", "vae", "vae_decoder"];

function list(path: string, folder: string): Promise<string[]> {
  return readdir(join(path, folder)).catch((): string[] => []);
}

function isWeights(name: string): boolean {
  return /\.(?:safetensors|bin|ckpt|msgpack)$/.test(name);
}

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
