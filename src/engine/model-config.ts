import { z } from "zod";

/*
 * The configuration files of an SDXL folder: the keys the engine uses, under the names and with the defaults of diffusers and
 * transformers. Other keys are ignored.
 */

export const modelIndexSchema = z.object({
  _class_name: z.string(),
  force_zeros_for_empty_prompt: z.boolean().default(true),
});

export const schedulerClassSchema = z.looseObject({ _class_name: z.string() });

/** Of `text_encoder` and `text_encoder_2`. */
export const textEncoderSchema = z.object({
  hidden_size: z.int().positive(),
  num_hidden_layers: z.int().positive(),
  max_position_embeddings: z.int().positive().default(77),
  projection_dim: z.int().positive().optional(),
});

const blocks = z.array(z.int().positive()).min(1);

export const unetSchema = z.object({
  in_channels: z.int().positive(),
  out_channels: z.int().positive(),
  sample_size: z.int().positive().default(128),
  block_out_channels: blocks,
  cross_attention_dim: z.union([z.int().positive(), z.array(z.int().positive()).min(1)]),
  addition_time_embed_dim: z.int().positive().nullish(),
  projection_class_embeddings_input_dim: z.int().positive().nullish(),
  /** Width of the guidance embedding that the UNet takes as `timestep_cond`, where it was distilled to guide itself. */
  time_cond_proj_dim: z.int().min(4).nullish(),
});

export const vaeSchema = z.object({
  latent_channels: z.int().positive(),
  block_out_channels: blocks,
  // That of SDXL, whose early exports lack the key.
  scaling_factor: z.number().positive().default(0.13025),
  latents_mean: z.array(z.number()).nullish(),
  latents_std: z.array(z.number()).nullish(),
  shift_factor: z.number().nullish(),
  /** Whether the decoder overflows in half precision; that of SDXL does, and diffusers takes it for granted. */
  force_upcast: z.boolean().default(true),
});

/** A special token is a text, or an object around it. */
const specialToken = z.union([z.string(), z.object({ content: z.string() }).transform(({ content }) => content)]);

/** Of tokenizer_config.json and special_tokens_map.json alike. */
export const tokenizerSchema = z.object({
  model_max_length: z.number().positive().optional(),
  bos_token: specialToken.optional(),
  eos_token: specialToken.optional(),
  pad_token: specialToken.optional(),
  unk_token: specialToken.optional(),
});

export const vocabularySchema = z.record(z.string(), z.int().min(0));

/** The part of tokenizer.json that replaces vocab.json and merges.txt where a folder lacks them. */
export const tokenizerJsonSchema = z.object({
  model: z.object({
    vocab: vocabularySchema,
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()]).transform((pair) => pair.join(" "))])),
  }),
});

const pixels = z.int().positive();

/** `throughline.json`: what SDXL's own files have no place for. Every key may be absent. */
export const throughlineSchema = z.strictObject({
  defaultSteps: z.int().positive().optional(),
  defaultGuidanceScale: z.number().min(0).optional(),
  defaultWidth: pixels.optional(),
  defaultHeight: pixels.optional(),
  /** Largest width and height, in pixels. */
  maximumSize: pixels.optional(),
  /** One row a latent channel: what it adds to red, green and blue, in −1 … 1. */
  previewFactors: z.array(z.tuple([z.number(), z.number(), z.number()])).optional(),
  previewBias: z.tuple([z.number(), z.number(), z.number()]).optional(),
});

export type TextEncoderConfig = z.output<typeof textEncoderSchema>;
export type UnetConfig = z.output<typeof unetSchema>;
export type VaeConfig = z.output<typeof vaeSchema>;
export type ThroughlineConfig = z.output<typeof throughlineSchema>;
