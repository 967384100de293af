import { basename, relative, sep } from "node:path";
import * as z from "zod";

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
  /** Width of the guidance embedding that the UNet takes as `timestep_cond`, if it takes one. */
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

const addedToken = z.object({ content: z.string(), normalized: z.boolean().default(false) });

/** A special token is an object, or its text alone. */
const specialToken = z.union([
  addedToken,
  z.string().transform((content): SpecialToken => ({ content, normalized: false })),
]);

/** A special token, and whether transformers matches it after normalization: in any case. */
export type SpecialToken = z.output<typeof addedToken>;

/** Of tokenizer_config.json and special_tokens_map.json alike. A null means the same as no key. */
export const tokenizerSchema = z.object({
  model_max_length: z.number().positive().nullish(),
  bos_token: specialToken.nullish(),
  eos_token: specialToken.nullish(),
  pad_token: specialToken.nullish(),
  unk_token: specialToken.nullish(),
  /** By id. */
  added_tokens_decoder: z.record(z.string(), addedToken).nullish(),
});

const tokenId = z.int().min(0);
const isObject = (value: unknown): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

/** Token → id. CLIP has 49,408: zod takes many times as long as this loop, and only words what is wrong. */
export const vocabularySchema = z
  .custom<object>(isObject, "expected an object")
  .transform((ids, context): ReadonlyMap<string, number> => {
    const vocabulary = new Map<string, number>();
    for (const token of Object.keys(ids)) {
      const id: unknown = Reflect.get(ids, token);
      if (typeof id === "number" && Number.isSafeInteger(id) && id >= 0) {
        vocabulary.set(token, id);
      } else {
        const [issue] = tokenId.safeParse(id).error?.issues ?? [];
        context.issues.push({ code: "custom", input: id, path: [token], message: issue?.message });
        break;
      }
    }
    return vocabulary;
  });

/** The part of tokenizer.json that replaces vocab.json and merges.txt where a folder lacks them. */
export const tokenizerJsonSchema = z.object({
  added_tokens: z.array(addedToken).default([]),
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
  /** Prompts that the model does well. */
  examplePrompts: z.array(z.string().min(1).max(2000)).max(20).optional(),
});

export type TextEncoderConfig = z.output<typeof textEncoderSchema>;
export type UnetConfig = z.output<typeof unetSchema>;
export type VaeConfig = z.output<typeof vaeSchema>;
export type ThroughlineConfig = z.output<typeof throughlineSchema>;

/*
 * The configurations of SDXL base 1.0, under the keys of diffusers and transformers. Used for single-file checkpoints and for exports without
 * configurations. Source: https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0.
 */

export const sdxlUnetConfig = {
  sample_size: 128,
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [320, 640, 1280],
  attention_head_dim: [5, 10, 20],
  cross_attention_dim: 2048,
  addition_embed_type: "text_time",
  addition_time_embed_dim: 256,
  projection_class_embeddings_input_dim: 2816,
} as const;

export const sdxlVaeConfig = {
  latent_channels: 4,
  block_out_channels: [128, 256, 512, 512],
  layers_per_block: 2,
  scaling_factor: 0.13025,
  force_upcast: true,
} as const;

const clipTokens = { max_position_embeddings: 77, eos_token_id: 2 } as const;

export const sdxlTextConfigs = [
  {
    ...clipTokens,
    hidden_size: 768,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    hidden_act: "quick_gelu",
    projection_dim: 768,
  },
  {
    ...clipTokens,
    hidden_size: 1280,
    num_hidden_layers: 32,
    num_attention_heads: 20,
    hidden_act: "gelu",
    projection_dim: 1280,
  },
] as const;

export const sdxlSchedulerConfig = {
  _class_name: "EulerDiscreteScheduler",
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  num_train_timesteps: 1000,
  prediction_type: "epsilon",
  timestep_spacing: "leading",
  steps_offset: 1,
  interpolation_type: "linear",
  use_karras_sigmas: false,
} as const;

/**
 * Names what lies in the cache of the Hugging Face Hub: `owner/name`, and the path of a file in it behind a colon. Undefined for other
 * paths. A snapshot lies at `models--owner--name/snapshots/<commit>`, and its own name has no meaning.
 */
export function hubName(path: string): string | undefined {
  const parts = path.split(sep);
  const at = parts.lastIndexOf("snapshots");
  const [, owner, name] = /^models--(.+?)--(.+)$/.exec(parts[at - 1] ?? "") ?? [];
  if (owner === undefined || parts[at + 1] === undefined) {
    return undefined;
  }
  const inside = relative(parts.slice(0, at + 2).join(sep), path);
  return `${owner}/${name}${inside === "" ? "" : `:${inside.split(sep).join("/")}`}`;
}

/** What a model is called: its id on the Hub, else the name of its folder. */
export function modelName(path: string): string {
  return hubName(path) ?? basename(path);
}
