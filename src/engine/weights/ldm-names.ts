import { rowsOf, type TensorLocation } from "./tensor-location.js";

/*
 * The names of Stability's own code for the weights of the UNet and the VAE. Source: the conversion of diffusers
 * (loaders/single_file_utils.py) and https://github.com/Stability-AI/generative-models.
 */

type Tensors = ReadonlyMap<string, TensorLocation>;
export type FindTensor = (name: string) => TensorLocation | undefined;

const unetLayers: Readonly<Record<string, string>> = {
  "time_embedding.linear_1": "time_embed.0",
  "time_embedding.linear_2": "time_embed.2",
  "time_embedding.cond_proj": "time_embed.cond_proj",
  "add_embedding.linear_1": "label_emb.0.0",
  "add_embedding.linear_2": "label_emb.0.2",
  conv_in: "input_blocks.0.0",
  conv_norm_out: "out.0",
  conv_out: "out.2",
};

const resnetLayers: Readonly<Record<string, string>> = {
  norm1: "in_layers.0",
  conv1: "in_layers.2",
  time_emb_proj: "emb_layers.1",
  norm2: "out_layers.0",
  conv2: "out_layers.3",
  conv_shortcut: "skip_connection",
};

/** How ldm numbers blocks: all levels in one row. */
export interface LdmShape {
  readonly levels: number;
  /** Resnets of a level on the way down; on the way up there is one more. */
  readonly layers: number;
}

/** Finds weights of a UNet by diffusers' names. */
export function findLdmUnet(tensors: Tensors, prefix: string): FindTensor {
  const shape = shapeOf((name) => tensors.has(prefix + name));
  return (name) => {
    for (const theirs of ldmUnetNames(name, shape)) {
      const found = tensors.get(prefix + theirs);
      if (found !== undefined) {
        return found;
      }
    }
    return undefined;
  };
}

function shapeOf(has: (name: string) => boolean): LdmShape {
  let layers = 0;
  while (has(`input_blocks.${layers + 1}.0.in_layers.0.weight`)) {
    layers++;
  }
  let levels = 1;
  while (has(`input_blocks.${levels * (layers + 1)}.0.op.weight`)) {
    levels++;
  }
  return { layers, levels };
}

const blockPattern =
  /^(down_blocks|up_blocks|mid_block)(?:\.(\d+))?\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.*)$/;

/** The names that a weight of diffusers' can have in ldm. */
export function ldmUnetNames(name: string, { layers, levels }: LdmShape): readonly string[] {
  const kind = name.slice(name.lastIndexOf(".") + 1);
  const fixed = unetLayers[name.slice(0, -kind.length - 1)];
  if (fixed !== undefined) {
    return [`${fixed}.${kind}`];
  }
  const [, side, levelText = "0", part, indexText, rest = ""] = blockPattern.exec(name) ?? [];
  const [level, index] = [Number(levelText), Number(indexText)];
  const inside = part === "resnets" ? rest.replace(/^[a-z_0-9]+/, (layer) => resnetLayers[layer] ?? layer) : rest;
  const place = part === "attentions" ? 1 : 0;
  if (side === "mid_block") {
    return [`middle_block.${2 * index + place}.${inside}`];
  }
  // Beyond its own blocks, a level's numbers are those of the next one.
  const most = side === "up_blocks" ? layers + 1 : layers;
  if (side === undefined || level >= levels || index >= most) {
    return [];
  }
  const first = level * (layers + 1);
  if (side === "down_blocks") {
    return part === "downsamplers"
      ? [`input_blocks.${first + layers + 1}.0.op.${kind}`]
      : [`input_blocks.${first + 1 + index}.${place}.${inside}`];
  }
  // Behind the resnet, and the transformer where there is one.
  return part === "upsamplers"
    ? [2, 1].map((behind) => `output_blocks.${first + layers}.${behind}.${rest}`)
    : [`output_blocks.${first + index}.${place}.${inside}`];
}

/** Finds weights of a VAE by diffusers' names. Its decoder counts levels from the other end. */
export function findLdmVae(tensors: Tensors, prefix: string): FindTensor {
  let levels = 0;
  while (tensors.has(`${prefix}decoder.up.${levels}.block.0.norm1.weight`)) {
    levels++;
  }
  return (name) => tensors.get(prefix + ldmVaeName(name, levels));
}

export function ldmVaeName(name: string, levels: number): string {
  const fromEnd = (level: string): number => levels - 1 - Number(level);
  return name
    .replace(/^(encoder|decoder)\.mid_block\.resnets\.(\d)/, (_, side, i) => `${side}.mid.block_${Number(i) + 1}`)
    .replace(/^(encoder|decoder)\.mid_block\.attentions\.0\./, "$1.mid.attn_1.")
    .replace(/^encoder\.down_blocks\.(\d+)\.resnets\./, "encoder.down.$1.block.")
    .replace(/^encoder\.down_blocks\.(\d+)\.downsamplers\.0\./, "encoder.down.$1.downsample.")
    .replace(/^decoder\.up_blocks\.(\d+)\.resnets\./, (_, level) => `decoder.up.${fromEnd(level)}.block.`)
    .replace(/^decoder\.up_blocks\.(\d+)\.upsamplers\.0\./, (_, level) => `decoder.up.${fromEnd(level)}.upsample.`)
    .replace(".conv_norm_out.", ".norm_out.")
    .replace(".conv_shortcut.", ".nin_shortcut.")
    .replace(".group_norm.", ".norm.")
    .replace(/\.to_([qkv])\./, ".$1.")
    .replace(".to_out.0.", ".proj_out.");
}

const layers: Readonly<Record<string, string>> = {
  "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
  "text_model.embeddings.position_embedding.weight": "positional_embedding",
  "text_model.final_layer_norm.weight": "ln_final.weight",
  "text_model.final_layer_norm.bias": "ln_final.bias",
};

const blockParts: Readonly<Record<string, string>> = {
  layer_norm1: "ln_1",
  layer_norm2: "ln_2",
  "mlp.fc1": "mlp.c_fc",
  "mlp.fc2": "mlp.c_proj",
  "self_attn.out_proj": "attn.out_proj",
};

const projections = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"];

/** Finds a weight of a CLIP text model by transformers' name among those of open_clip. Query, key and value are thirds of one tensor there. */
export function findOpenClip(
  tensors: ReadonlyMap<string, TensorLocation>,
  prefix: string,
  name: string,
): TensorLocation | undefined {
  if (name === "text_projection.weight") {
    const found = tensors.get(`${prefix}text_projection`);
    return found && { ...found, transposed: true };
  }
  const fixed = layers[name];
  if (fixed !== undefined) {
    return tensors.get(prefix + fixed);
  }
  const [, layer, part = "", kind] = /^text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? [];
  const block = `${prefix}transformer.resblocks.${layer}.`;
  const third = projections.indexOf(part);
  if (third >= 0) {
    const found = tensors.get(`${block}attn.in_proj_${kind}`);
    const rows = (found?.shape[0] ?? 0) / 3;
    return found && rowsOf(found, third * rows, rows);
  }
  const theirs = blockParts[part];
  return theirs === undefined ? undefined : tensors.get(`${block}${theirs}.${kind}`);
}
