import { readdir } from "node:fs/promises";
import { join } from "node:path";
import type { ExecutionProvider } from "./device.js";
import { ModelFolderError } from "./folder-reader.js";
import type { VaeConfig } from "./model-config.js";
import type { ModelDescription } from "./model-description.js";

/**
 * What to run a model in. `float32`: weights in float32, prepared once, in memory. `float16`: half-precision weights, which stay in their
 * files. `auto`: half precision on a GPU, on a CPU what the memory allows. Of exported graphs it decides which to take where there are both.
 */
export type Precision = "auto" | "float32" | "float16";
/** All of them. */
export const precisions = ["auto", "float32", "float16"] as const satisfies readonly Precision[];

/** Sub-models of SDXL, by their folders. */
export const subModelFolders = ["text_encoder", "text_encoder_2", "unet", "vae_decoder"] as const;
export type SubModelFolder = (typeof subModelFolders)[number];

/** Folder of the VAE's encoder, which models need for an image to start from. */
export const vaeEncoderFolder = "vae_encoder";
/** All parts of a model. */
export type SubModelName = SubModelFolder | typeof vaeEncoderFolder;

/** One value for each sub-model; the VAE's encoder may be absent. */
export type PerSubModel<T> = Readonly<Record<SubModelFolder, T>> & { readonly [vaeEncoderFolder]?: T };

/** Makes a value of each sub-model's. */
export function mapSubModels<T, U>(
  { text_encoder, text_encoder_2, unet, vae_decoder, vae_encoder }: PerSubModel<T>,
  map: (value: T, subModel: SubModelName) => U,
): PerSubModel<U> {
  return {
    text_encoder: map(text_encoder, "text_encoder"),
    text_encoder_2: map(text_encoder_2, "text_encoder_2"),
    unet: map(unet, "unet"),
    vae_decoder: map(vae_decoder, "vae_decoder"),
    ...(vae_encoder !== undefined && { vae_encoder: map(vae_encoder, "vae_encoder") }),
  };
}

/** The graph of each sub-model: paths inside the model's folder. */
export type GraphFiles = PerSubModel<string>;

/** Names that graphs have in the wild: the first is the plain export, of whatever precision; the second stands beside it in half precision. */
const plainName = "model.onnx";
const halfName = "model_fp16.onnx";

/**
 * Chooses the graphs of a model. `auto` takes half precision on a GPU, where it is faster and half as large, and the plain export on the
 * CPU, which computes in float32 for any graph. If one of the two is absent, the other is taken, unless the precision is
 * set: `float32` wants every plain export, `float16` at least one in half precision.
 *
 * The VAE is taken in half precision only if its configuration allows it (`force_upcast: false`, as that of
 * sdxl-vae-fp16-fix does), or where there is no other: the original one overflows.
 *
 * @throws ModelFolderError when a graph is missing.
 */
export async function chooseGraphs(
  model: Pick<ModelDescription, "path"> & { readonly vae: Pick<VaeConfig, "force_upcast"> },
  options: { readonly precision: Precision; readonly provider: ExecutionProvider },
): Promise<GraphFiles> {
  const { precision, provider } = options;
  const half = precision === "auto" ? provider !== "cpu" : precision === "float16";
  const find = async (folder: SubModelName): Promise<string | undefined> => {
    const overflows = folder.startsWith("vae_") && model.vae.force_upcast;
    const wanted = half && !overflows ? [halfName, plainName] : [plainName, halfName];
    const names = await readdir(join(model.path, folder)).catch((): string[] => []);
    const name = (precision === "float32" ? [plainName] : wanted).find((candidate) => names.includes(candidate));
    return name && `${folder}/${name}`;
  };
  const choose = async (folder: SubModelFolder): Promise<string> => {
    const file = await find(folder);
    if (file === undefined) {
      const expected = precision === "float32" ? "a file" : `a file (or ${halfName} in its place)`;
      throw new ModelFolderError(model.path, { file: `${folder}/${plainName}`, expected, found: "none" });
    }
    return file;
  };
  const encoder = await find(vaeEncoderFolder);
  const files: GraphFiles = {
    text_encoder: await choose("text_encoder"),
    text_encoder_2: await choose("text_encoder_2"),
    unet: await choose("unet"),
    vae_decoder: await choose("vae_decoder"),
    ...(encoder !== undefined && { vae_encoder: encoder }),
  };
  if (precision === "float16" && !Object.values(files).some((file) => file.endsWith(halfName))) {
    const expected = "a file, since half precision was asked for";
    throw new ModelFolderError(model.path, { file: `unet/${halfName}`, expected, found: "none" });
  }
  return files;
}
