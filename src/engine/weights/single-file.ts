import { basename } from "node:path";
import { checkIsSdxlCheckpoint } from "./checkpoint-kind.js";
import type { WeightFolder } from "./diffusers-weights.js";
import { findLdmUnet, findLdmVae } from "./ldm-names.js";
import { findOpenClip } from "./open-clip-names.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import type { TensorLocation, WeightSource } from "./tensor-location.js";

/** A checkpoint of all sub-models in one file, under the names of Stability's own code (ldm, sgm) and open_clip. */
export interface SingleFile {
  readonly file: SafetensorsFile;
  readonly weights: Readonly<Record<WeightFolder, WeightSource>>;
}

/** Where each sub-model's tensors stand in such a file. */
const prefixes = {
  unet: "model.diffusion_model.",
  vae: "first_stage_model.",
  text_encoder: "conditioner.embedders.0.transformer.",
  text_encoder_2: "conditioner.embedders.1.model.",
} as const satisfies Record<WeightFolder, string>;

/**
 * Reads where the weights of each sub-model lie in a checkpoint of one file.
 *
 * @throws WeightError when it is no safetensors file, or another kind of file than an SDXL checkpoint.
 */
export async function readSingleFile(path: string): Promise<SingleFile> {
  const label = basename(path);
  const file = await readSafetensors(path, label);
  checkIsSdxlCheckpoint(file, label);
  const { tensors } = file;
  const source = (part: WeightFolder, find: (name: string) => TensorLocation | undefined): WeightSource => {
    const own = [...tensors.values()].filter(({ name }) => name.startsWith(prefixes[part]));
    return { label, find, tensors: own, files: [file] };
  };
  const unet = findLdmUnet(tensors, prefixes.unet);
  const vae = findLdmVae(tensors, prefixes.vae);
  return {
    file,
    weights: {
      unet: source("unet", unet),
      vae: source("vae", vae),
      text_encoder: source("text_encoder", (name) => tensors.get(prefixes.text_encoder + name)),
      text_encoder_2: source("text_encoder_2", (name) => findOpenClip(tensors, prefixes.text_encoder_2, name)),
    },
  };
}
