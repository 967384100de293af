/*
 * The configurations of SDXL base 1.0, under the keys of diffusers and transformers: what a checkpoint of one file goes by, and an export
 * without configurations. Source: https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0.
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
