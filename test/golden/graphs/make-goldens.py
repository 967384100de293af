"""Makes the golden values of the graphs that the engine builds, with torch, diffusers and transformers.

python test/golden/graphs/make-goldens.py        (writes goldens.json and shapes.json.gz beside this script)

The weights are not stored: `weights` makes them from the tensors' names, and test/fixtures/safetensors-model.ts makes the same ones. They are exact in float32, float16 and
bfloat16 alike, so that one golden holds for all three.
"""

import base64
import gzip
import json
import platform
import sys
import zlib
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "training"))
LATENTS = (16, 8)

# SDXL in small: 64 channels a head and 32 groups, as checkpoints of one file have it.
UNET = dict(
    sample_size=16, in_channels=4, out_channels=4,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"], up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    block_out_channels=[64, 64, 128], layers_per_block=2, cross_attention_dim=128, transformer_layers_per_block=[1, 2, 3], attention_head_dim=[1, 1, 2],
    use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=64 + 6 * 256,
)
VAE = dict(
    sample_size=128, latent_channels=4, block_out_channels=[32, 32, 64, 64], layers_per_block=2, scaling_factor=0.13025, force_upcast=True,
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
)
TEXT = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=0, eos_token_id=2, hidden_size=64, intermediate_size=128, num_attention_heads=1, projection_dim=64)
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading")
TEXT_1 = dict(**TEXT, num_hidden_layers=3, hidden_act="quick_gelu")
TEXT_2 = dict(**TEXT, num_hidden_layers=4, hidden_act="gelu")

SMALL = {**UNET, "block_out_channels": [32, 32, 64], "attention_head_dim": [2, 2, 4], "norm_num_groups": 16, "cross_attention_dim": 48, "addition_time_embed_dim": 16,
         "projection_class_embeddings_input_dim": 40 + 6 * 16, "transformer_layers_per_block": [1, 1, 2]}
VARIANTS = dict(
    conv_projection=dict(use_linear_projection=False),
    lcm=dict(time_cond_proj_dim=24),
    uneven_layers=dict(layers_per_block=[1, 2, 2]),
    no_middle=dict(mid_block_type=None),
    plain_middle=dict(mid_block_type="UNetMidBlock2D"),
    ssd=dict(transformer_layers_per_block=[1, [2, 2], [4, 4]], reverse_transformer_layers_per_block=[[4, 4, 3], [2, 1, 1], 1], mid_block_type="UNetMidBlock2D"),
    sin_first=dict(flip_sin_to_cos=False, freq_shift=1),
    four_levels=dict(down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
                     up_block_types=["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"], block_out_channels=[32, 32, 64, 64],
                     transformer_layers_per_block=[1, 1, 2, 1], attention_head_dim=[2, 2, 4, 4]),
    nine_channels=dict(in_channels=9),
)


def hashes(name, count):
    """A 32-bit hash for each value of a tensor, from the tensor's name and the value's place."""
    x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B9) + np.uint32(zlib.crc32(name.encode()))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        x = (x ^ (x >> np.uint32(shift))) * np.uint32(factor)
    return x ^ (x >> np.uint32(16))


def weights(name, shape):
    """Multiples of 1/128 in -1 ... 1 times a power of two that suits the inputs' number; norms' weights are about one."""
    bits = hashes(name, int(np.prod(shape))) >> np.uint32(24)
    units = (bits.astype(np.float32) - 128) / 128
    if len(shape) == 1 and name.endswith("weight"):
        values = 1 + np.floor(units * 4) / 32
    elif len(shape) == 1:
        values = units / 8
    elif "embedding.weight" in name:
        values = units / 2
    else:
        values = units * 2.0 ** np.round(np.log2(1.7 / np.sqrt(np.prod(shape[1:]))))
    return values.reshape(shape).astype(np.float32)


def noise(name, shape):
    return torch.from_numpy(((hashes(name, int(np.prod(shape))) >> np.uint32(8)).astype(np.float64) / 2**23 - 1).astype(np.float32).reshape(shape))


def fill(model, part):
    """Gives a model the weights of its names, and returns its shapes."""
    state = {k: v for k, v in model.state_dict().items() if not k.endswith("position_ids")}
    # transformers 5 saves the first encoder without the prefix that the names in the wild have.
    named = lambda k: k if part != "text_encoder" or k.startswith("text_model.") else f"text_model.{k}"
    model.load_state_dict({k: torch.from_numpy(weights(f"{part}.{named(k)}", tuple(v.shape))) for k, v in state.items()}, strict=False)
    model.eval()
    return {named(k): list(v.shape) for k, v in state.items()}


def packed(tensor):
    return dict(shape=list(tensor.shape), float32=base64.b64encode(tensor.detach().contiguous().float().numpy().astype("<f4").tobytes()).decode())


def run_unet(model, name):
    c = model.config
    pooled = c.projection_class_embeddings_input_dim - 6 * c.addition_time_embed_dim
    sample = noise(f"{name}.sample", (2, c.in_channels, *LATENTS))
    hidden = noise(f"{name}.hidden", (2, 77, c.cross_attention_dim))
    text = noise(f"{name}.pooled", (2, pooled))
    guidance = noise(f"{name}.guidance", (2, c.time_cond_proj_dim)) if c.time_cond_proj_dim else None
    ids = torch.tensor([[128.0, 64, 0, 0, 128, 64]] * 2)
    return model(sample, torch.tensor(501.0), hidden, timestep_cond=guidance, added_cond_kwargs=dict(text_embeds=text, time_ids=ids)).sample


def single_file_names(shapes, unet_config, vae_config):
    """Names of each weight in a checkpoint of one file; diffusers' own conversion has to lead back to it."""
    from diffusers.loaders import single_file_utils
    from make_full_size import ldm_unet, ldm_vae

    unet = {k: "model.diffusion_model." + ldm_unet(k) for k in shapes["unet"]}
    vae = {k: "first_stage_model." + ldm_vae(k) for k in shapes["vae"]}
    for names, convert, config in ((unet, single_file_utils.convert_ldm_unet_checkpoint, unet_config), (vae, single_file_utils.convert_ldm_vae_checkpoint, vae_config)):
        # One value each, which says where it came from.
        marks = {theirs: torch.full((1, 1), i) for i, theirs in enumerate(names.values())}
        back = convert(dict(marks), config)
        for i, ours in enumerate(names):
            assert int(back[ours].flatten()[0]) == i, ours
    return dict(unet=unet, vae=vae)


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    shapes, goldens = {}, {}
    ids = torch.full((2, 77), 49407)
    ids[:, 0] = 49406
    ids[0, 1:4] = torch.tensor([320, 736, 3055])
    ids[1, 1:30] = torch.arange(1000, 30000, 1000)
    unet, vae = UNet2DConditionModel(**UNET), AutoencoderKL(**VAE)
    one, two = CLIPTextModel(CLIPTextConfig(**TEXT_1)), CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2))
    for part, model in dict(unet=unet, vae=vae, text_encoder=one, text_encoder_2=two).items():
        shapes[part] = fill(model, part)
    first, second = one(ids, output_hidden_states=True), two(ids, output_hidden_states=True)
    goldens["ids"] = ids.tolist()
    goldens["text_encoder"] = packed(first.hidden_states[-2][:1])
    goldens["text_encoder_2"] = packed(second.hidden_states[-2][:1])
    goldens["text_embeds"] = packed(second.text_embeds)
    goldens["unet"] = packed(run_unet(unet, "unet"))
    goldens["decoded"] = packed(vae.decode(noise("latent", (1, 4, 8, 4))).sample)
    goldens["moments"] = packed(vae._encode(noise("image", (1, 3, 64, 32))))

    pipe = StableDiffusionXLPipeline(vae=vae, text_encoder=one, text_encoder_2=two, unet=unet, tokenizer=None, tokenizer_2=None,
                                     scheduler=EulerDiscreteScheduler(**SCHEDULER),
                                     force_zeros_for_empty_prompt=True, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)

    def embed(words):
        """What the pipeline makes of a prompt's ids; the second tokenizer pads with 0."""
        rows = []
        for padding in (49407, 0):
            row = [49406, *words, 49407]
            rows.append(torch.tensor([row + [padding] * (77 - len(row))]))
        a, b = one(rows[0], output_hidden_states=True), two(rows[1], output_hidden_states=True)
        return torch.cat([a.hidden_states[-2], b.hidden_states[-2]], -1), b.text_embeds

    # "a red apple" and "blue" by CLIP's vocabulary; the test cuts the words itself.
    prompt, negative = embed([320, 736, 3055]), embed([1746])
    common = dict(prompt_embeds=prompt[0], pooled_prompt_embeds=prompt[1], negative_prompt_embeds=negative[0], negative_pooled_prompt_embeds=negative[1], height=128, width=64)
    image = lambda **more: (pipe(**common, **more, generator=torch.Generator().manual_seed(42), output_type="np").images[0] * 255).round().astype(np.uint8)
    bytes_of = lambda image: dict(width=64, height=128, pixels=base64.b64encode(image.tobytes()).decode())
    goldens["image"] = bytes_of(image(num_inference_steps=6, guidance_scale=5.0))
    for name, change in dict(v_prediction=dict(prediction_type="v_prediction"),
                             zero_snr=dict(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing")).items():
        pipe.scheduler = EulerDiscreteScheduler(**{**SCHEDULER, **change})
        goldens[name] = bytes_of(image(num_inference_steps=4, guidance_scale=5.0))

    goldens["configs"] = dict(unet=UNET, vae=VAE, text_encoder=TEXT_1, text_encoder_2=TEXT_2)
    goldens["variants"] = {}
    for name, change in VARIANTS.items():
        config = {**SMALL, **change}
        model = UNet2DConditionModel(**config)
        shapes[name] = fill(model, name)
        goldens["variants"][name] = dict(config=config, output=packed(run_unet(model, name)))

    made_by = dict(command="python test/golden/graphs/make-goldens.py", python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__,
                   transformers=transformers.__version__, numpy=np.__version__, machine=platform.machine())
    (HERE / "goldens.json").write_text(json.dumps(dict(madeBy=made_by, **goldens)) + "\n")
    names = single_file_names(shapes, dict(unet.config), dict(vae.config))
    with gzip.GzipFile(HERE / "shapes.json.gz", "wb", 9, mtime=0) as file:
        file.write(json.dumps(dict(madeBy=made_by, shapes=shapes, singleFileNames=names)).encode())
    print({k: len(v) for k, v in shapes.items()})


if __name__ == "__main__":
    main()
