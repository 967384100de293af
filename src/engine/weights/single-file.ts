import { basename } from "node:path";
import type { WeightFolder } from "./diffusers-weights.js";
import { findLdmUnet, findLdmVae, findOpenClip } from "./ldm-names.js";
import { readSafetensors, type SafetensorsFile } from "./safetensors.js";
import { type TensorLocation, WeightError, type WeightSource } from "./tensor-location.js";

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

/** Files that are taken for SDXL checkpoints, by tensors that only they have. The first that fits is reported. */
const otherKinds: readonly { readonly has: RegExp; readonly what: string }[] = [
  {
    has: /\.lora_(?:up|down|A|B)\.|\.lora\.(?:up|down)\.|^lora_(?:unet|te\d?)_|\.(?:hada_w|lokr_w)/,
    what: "a LoRA, which changes a checkpoint but is not one",
  },
  { has: /^(?:emb_params|clip_[gl]|\*|string_to_param.*)$/, what: "a textual inversion, which is no checkpoint" },
  { has: /^(?:control_model\.|input_hint_block\.|controlnet_cond_embedding\.)/, what: "a ControlNet" },
  { has: /^model\.diffusion_model\.joint_blocks\./, what: "a Stable Diffusion 3 checkpoint" },
  { has: /(?:^|\.)double_blocks\.\d/, what: "a Flux checkpoint" },
  { has: /^edm_mean$/, what: "a Playground 2.5 checkpoint, whose EDM formulation the engine does not implement" },
  { has: /^edm_vpred\./, what: "a checkpoint with EDM noise levels (edm_vpred), which the engine does not implement" },
  { has: /^conditioner\.embedders\.0\.model\./, what: "the SDXL refiner, which finishes images of a base model" },
  { has: /^cond_stage_model\.transformer\.|^cond_stage_model\.model\./, what: "a Stable Diffusion 1 or 2 checkpoint" },
];

/** What a whole checkpoint has of each of its parts. */
const parts: readonly { readonly tensor: string; readonly what: string }[] = [
  { tensor: "model.diffusion_model.input_blocks.0.0.weight", what: "UNet" },
  { tensor: "model.diffusion_model.label_emb.0.0.weight", what: "size and text conditions of SDXL's UNet" },
  {
    tensor: "conditioner.embedders.0.transformer.text_model.embeddings.token_embedding.weight",
    what: "first text encoder",
  },
  { tensor: "conditioner.embedders.1.model.token_embedding.weight", what: "second text encoder" },
  { tensor: "first_stage_model.decoder.conv_in.weight", what: "VAE" },
];

/** Latent channels of SDXL; 8 and 9 are of models that edit images. */
const latentChannels = 4;

/** @throws WeightError naming what the file is instead, or which part of a checkpoint it lacks. */
export function checkIsSdxlCheckpoint({ tensors }: SafetensorsFile, label: string): void {
  const fail = (found: string): never => {
    throw new WeightError(label, "an SDXL checkpoint", found);
  };
  const names = [...tensors.keys()];
  const other = otherKinds.find(({ has }) => names.some((name) => has.test(name)));
  if (other !== undefined) {
    fail(other.what);
  }
  const lacking = parts.filter(({ tensor }) => !tensors.has(tensor));
  if (lacking.length === parts.length) {
    const diffusers = names.some((name) => /^(?:down_blocks|conv_in|text_model|decoder)\./.test(name));
    fail(
      diffusers
        ? "one part of a diffusers folder; give the folder that model_index.json lies in"
        : `tensors that no SDXL checkpoint has, such as ${names[0] ?? "none at all"}`,
    );
  }
  const [first] = lacking;
  if (first !== undefined) {
    fail(`one without the ${first.what} (no tensor ${first.tensor})`);
  }
  const channels = tensors.get("model.diffusion_model.input_blocks.0.0.weight")?.shape[1];
  if (channels !== latentChannels) {
    fail(`a UNet of ${channels} input channels, which edits images (inpainting, instruct-pix2pix)`);
  }
}
