import * as z from "zod";
import type { ClipPlan } from "./clip.js";
import type { UnetPlan } from "./unet.js";
import type { VaePlan } from "./vae.js";

/*
 * What graphs need to know from the configurations of diffusers and transformers. A value that the graphs do not implement is rejected by
 * the name of its key, because ignoring it would give other images than diffusers.
 */

const positive = z.int().positive();
/** One number for all levels, or one for each. */
const perLevel = z.union([positive, z.array(positive).min(1)]);
const off = z.literal([null, false]).optional();
const anything = z.unknown().optional();

/** An unknown key must have a value that switches it off. */
const unknownKey = z.literal([null, false], { error: "null, since the engine does not implement this key" });

/** Keys that begin with `_` describe the tool that wrote the file. */
function withoutNotes(config: unknown): unknown {
  return typeof config === "object" && config !== null
    ? Object.fromEntries(Object.entries(config).filter(([key]) => !key.startsWith("_")))
    : config;
}

const unetConfig = z
  .object({
    block_out_channels: z.array(positive).min(1),
    down_block_types: z.array(z.enum(["DownBlock2D", "CrossAttnDownBlock2D"])).optional(),
    up_block_types: z.array(z.enum(["UpBlock2D", "CrossAttnUpBlock2D"])).optional(),
    mid_block_type: z.enum(["UNetMidBlock2DCrossAttn", "UNetMidBlock2D"]).nullish(),
    layers_per_block: perLevel.default(2),
    transformer_layers_per_block: z.union([positive, z.array(z.union([positive, z.array(positive)]))]).default(1),
    reverse_transformer_layers_per_block: anything,
    attention_head_dim: perLevel.default(8),
    num_attention_heads: perLevel.nullish(),
    cross_attention_dim: perLevel,
    addition_embed_type: z.literal("text_time"),
    addition_time_embed_dim: positive,
    projection_class_embeddings_input_dim: positive,
    norm_num_groups: positive.default(32),
    norm_eps: z.number().default(1e-5),
    flip_sin_to_cos: z.boolean().default(true),
    freq_shift: z.number().default(0),
    act_fn: z.enum(["silu", "swish"]).optional(),
    downsample_padding: z.literal(1).optional(),
    mid_block_scale_factor: z.literal(1).optional(),
    resnet_time_scale_shift: z.literal("default").optional(),
    resnet_out_scale_factor: z.literal(1).optional(),
    time_embedding_type: z.literal("positional").optional(),
    attention_type: z.literal("default").optional(),
    conv_in_kernel: z.literal(3).optional(),
    conv_out_kernel: z.literal(3).optional(),
    only_cross_attention: z.union([z.literal(false), z.array(z.literal(false))]).optional(),
    // Facts that the tensors contain, or that change nothing.
    sample_size: anything,
    in_channels: anything,
    out_channels: anything,
    time_cond_proj_dim: anything,
    time_embedding_dim: anything,
    use_linear_projection: anything,
    upcast_attention: anything,
    dropout: anything,
    addition_embed_type_num_heads: anything,
    quantization_config: off,
  })
  .catchall(unknownKey);

/** Reads a UNet's config.json. */
export const unetPlanSchema = z.preprocess(withoutNotes, unetConfig).transform((config): UnetPlan => {
  const levels = config.block_out_channels.length;
  const spread = (value: number | readonly number[]): readonly number[] =>
    typeof value === "number" ? new Array<number>(levels).fill(value) : value;
  const depths = [config.transformer_layers_per_block].flat().filter((depth) => typeof depth === "number");
  const regular = config.reverse_transformer_layers_per_block == null && depths.length === 1;
  const perLevelDepths = Array.isArray(config.transformer_layers_per_block)
    ? depths.length === levels && config.reverse_transformer_layers_per_block == null
      ? depths
      : undefined
    : regular
      ? spread(depths[0] ?? 1)
      : undefined;
  const withAttention = (types: readonly string[] | undefined) => types?.map((type) => type.startsWith("CrossAttn"));
  return {
    // Before diffusers named it rightly, `attention_head_dim` was the number of heads, and it still is.
    heads: spread(config.num_attention_heads ?? config.attention_head_dim),
    contextWidth: [config.cross_attention_dim].flat()[0] ?? 0,
    pooledWidth: config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim,
    groups: config.norm_num_groups,
    eps: config.norm_eps,
    flipSinToCos: config.flip_sin_to_cos,
    frequencyShift: config.freq_shift,
    timeIdWidth: config.addition_time_embed_dim,
    layers: spread(config.layers_per_block),
    depths: perLevelDepths,
    attends: {
      down: withAttention(config.down_block_types),
      up: withAttention(config.up_block_types),
      middle: config.mid_block_type === undefined ? undefined : config.mid_block_type === "UNetMidBlock2DCrossAttn",
    },
  };
});

/** Reads a text encoder's config.json. */
export const clipPlanSchema = z
  .object({
    num_hidden_layers: positive,
    num_attention_heads: positive,
    hidden_act: z.enum(["gelu", "quick_gelu"]).default("quick_gelu"),
    layer_norm_eps: z.number().default(1e-5),
    eos_token_id: z.int().default(2),
    model_type: z.literal("clip_text_model").optional(),
    quantization_config: off,
  })
  .transform(
    (config): ClipPlan => ({
      heads: config.num_attention_heads,
      activation: config.hidden_act,
      eps: config.layer_norm_eps,
      layers: config.num_hidden_layers,
      endToken: config.eos_token_id,
    }),
  );

const vaeConfig = z
  .object({
    block_out_channels: z.array(positive).min(1),
    layers_per_block: positive.default(1),
    norm_num_groups: positive.default(32),
    mid_block_add_attention: z.boolean().default(true),
    act_fn: z.literal("silu").optional(),
    down_block_types: z.array(z.literal("DownEncoderBlock2D")).optional(),
    up_block_types: z.array(z.literal("UpDecoderBlock2D")).optional(),
    // Facts that the tensors contain, or that the pipeline applies.
    in_channels: anything,
    out_channels: anything,
    latent_channels: anything,
    sample_size: anything,
    scaling_factor: anything,
    shift_factor: anything,
    latents_mean: anything,
    latents_std: anything,
    force_upcast: anything,
    use_quant_conv: anything,
    use_post_quant_conv: anything,
    quantization_config: off,
  })
  .catchall(unknownKey);

/** Reads a VAE's config.json. */
export const vaePlanSchema = z.preprocess(withoutNotes, vaeConfig).transform(
  (config): VaePlan => ({
    groups: config.norm_num_groups,
    levels: config.block_out_channels.length,
    layers: config.layers_per_block,
    attends: config.mid_block_add_attention,
  }),
);
