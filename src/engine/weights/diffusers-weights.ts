import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import { type TensorLocation, WeightError, type WeightSource } from "./tensor-location.js";

/** Sub-models of a diffusers folder that have weights. */
export type WeightFolder = "text_encoder" | "text_encoder_2" | "unet" | "vae";

const indexSchema = z.object({ weight_map: z.record(z.string(), z.string()) });

/** File names without their variant, of diffusers and of transformers. */
const baseNames = ["diffusion_pytorch_model", "model"];

/**
 * Files of weights that a folder can have, best first: the usual one or its index of shards, in the variant or without one.
 *
 * @param variant `fp16` or none.
 */
export function weightFileNames(variant: "fp16" | undefined): readonly string[] {
  return baseNames.flatMap((base) =>
    variant === undefined
      ? [`${base}.safetensors`, `${base}.safetensors.index.json`]
      : [
          `${base}.${variant}.safetensors`,
          `${base}.safetensors.index.${variant}.json`,
          `${base}.${variant}.safetensors.index.json`,
        ],
  );
}

/** Which file of a folder to take. Half precision has half the size, and is what diffusers' users load. */
export function chooseWeightFile(names: readonly string[], half: boolean): string | undefined {
  const [fp16, plain] = [weightFileNames("fp16"), weightFileNames(undefined)];
  return (half ? [...fp16, ...plain] : [...plain, ...fp16]).find((name) => names.includes(name));
}

/** Shards that an index names. @throws WeightError when it is none, or names files elsewhere. */
export function shardsOfIndex(text: string, label: string): readonly string[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  const index = indexSchema.safeParse(value);
  if (!index.success) {
    throw new WeightError(label, "an index of shards with a weight_map", "something else");
  }
  const shards = [...new Set(Object.values(index.data.weight_map))];
  const odd = shards.find((shard) => !/^[\w.-]+\.safetensors$/.test(shard));
  if (odd !== undefined) {
    throw new WeightError(label, "names of .safetensors files beside it", JSON.stringify(odd.slice(0, 80)));
  }
  return shards;
}

/**
 * Reads where the weights of a sub-model lie in a diffusers folder.
 *
 * @param half prefers the `fp16` variant where there are both.
 * @throws WeightError when the folder has none, or a file of it cannot be used.
 */
export async function readDiffusersWeights(
  modelFolder: string,
  folder: WeightFolder,
  half: boolean,
): Promise<WeightSource> {
  const names = await readdir(join(modelFolder, folder)).catch((): string[] => []);
  const name = chooseWeightFile(names, half);
  if (name === undefined) {
    const expected = folder.startsWith("text") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    throw new WeightError(`${folder}/${expected}`, "a file", names.length === 0 ? "no such folder" : "none");
  }
  const label = `${folder}/${name}`;
  const path = join(modelFolder, folder, name);
  const shards = name.endsWith(".json") ? shardsOfIndex(await readFile(path, "utf8"), label) : [name];
  const files: SafetensorsFile[] = [];
  for (const shard of shards) {
    const shardLabel = `${folder}/${shard}`;
    files.push(
      await readSafetensors(join(modelFolder, folder, shard), shardLabel).catch((error: unknown) => {
        throw missingFile(error, shardLabel);
      }),
    );
  }
  return toSource(label, folder, files);
}

function missingFile(error: unknown, label: string): unknown {
  if (error instanceof WeightError || !(error instanceof Error && "code" in error)) {
    return error;
  }
  return new WeightError(label, "a readable file", error.code === "ENOENT" ? "none" : error.message);
}

function toSource(label: string, folder: WeightFolder, files: readonly SafetensorsFile[]): WeightSource {
  const tensors = new Map<string, TensorLocation>();
  for (const file of files) {
    for (const [name, location] of file.tensors) {
      if (tensors.has(name)) {
        throw new WeightError(label, `${name} in one of its shards`, "it in two");
      }
      tensors.set(name, location);
    }
  }
  // transformers 5 saves CLIPTextModel without the prefix that every earlier one and the projected model have.
  const find = folder.startsWith("text")
    ? (name: string) => tensors.get(name) ?? tensors.get(name.replace(/^text_model\./, ""))
    : (name: string) => tensors.get(name);
  return { label, find, tensors: [...tensors.values()], files };
}
