import { rowsOf, type TensorLocation } from "./tensor-location.js";

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
