"""Writes a model of SDXL base 1.0's own size with random weights, to see that what is as large as the real one loads and runs.

python make_full_size.py --out DIR [--single FILE.safetensors] [--type fp16|fp32] [--seed 1]
python make_full_size.py --shapes ../test/golden/graphs/full-size-shapes.json.gz

DIR is a diffusers folder of safetensors, FILE the same weights as a checkpoint of one file, under the names of Stability's own code. Both take 7 GB in fp16. The images are
noise; what they take to load and to run is that of the real model. The weights are drawn tensor by tensor into the files, so that it needs no memory to speak of.
"""

import argparse
import gzip
import json
import re
import struct
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

UNET = dict(
    sample_size=128, in_channels=4, out_channels=4,
    down_block_types=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    up_block_types=["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    block_out_channels=[320, 640, 1280], layers_per_block=2, cross_attention_dim=2048,
    transformer_layers_per_block=[1, 2, 10], attention_head_dim=[5, 10, 20], use_linear_projection=True,
    addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
)
VAE = dict(
    sample_size=1024, latent_channels=4, block_out_channels=[128, 256, 512, 512], layers_per_block=2, scaling_factor=0.13025, force_upcast=True,
    down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
)
TEXT = dict(vocab_size=49408, max_position_embeddings=77, bos_token_id=0, eos_token_id=2)
TEXT_1 = dict(**TEXT, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768)
TEXT_2 = dict(**TEXT, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu", projection_dim=1280)
SCHEDULER = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)
TYPES = dict(fp16=("F16", np.float16), fp32=("F32", np.float32))
LARGEST_DRAW = 1 << 22


def drawn(name, shape, dtype, rng):
    """The values of a tensor, in pieces: normal, as small as its inputs are many, and about one for norms."""
    count, rest = int(np.prod(shape)), None
    fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 1
    norm = len(shape) == 1 and name.endswith("weight")
    scale = 0.02 if len(shape) == 1 or "embedding" in name else 0.7 / np.sqrt(fan_in)
    for start in range(0, count, LARGEST_DRAW):
        n = min(LARGEST_DRAW, count - start)
        if rest is None or len(rest) != n:
            rest = rng.standard_normal(n, dtype=np.float32)
        else:
            # Large tensors repeat a piece, shifted: what it takes to run does not depend on the values.
            rest = np.roll(rest, 4099)
        yield (rest * scale + (1 if norm else 0)).astype(dtype).tobytes()


def write_safetensors(path, shapes, kind, seed):
    name, dtype = TYPES[kind]
    header, at = {}, 0
    for key, shape in shapes.items():
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        header[key] = dict(dtype=name, shape=list(shape), data_offsets=[at, at + size])
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, shape in shapes.items():
            for piece in drawn(key, shape, dtype, rng):
                file.write(piece)
    print(f"{path}: {len(shapes)} tensors, {path.stat().st_size / 1e9:.2f} GB")


def shapes_of(model):
    return {k: tuple(v.shape) for k, v in sorted(model.state_dict().items()) if not k.endswith("position_ids")}


def ldm_unet(name, layers=2):
    """diffusers' name of a UNet's weight to that of Stability's own code."""
    fixed = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2", "add_embedding.linear_1": "label_emb.0.0",
             "add_embedding.linear_2": "label_emb.0.2", "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
    for ours, theirs in fixed.items():
        if name.startswith(ours + "."):
            return theirs + name[len(ours):]
    resnet = dict(norm1="in_layers.0", conv1="in_layers.2", time_emb_proj="emb_layers.1", norm2="out_layers.0", conv2="out_layers.3", conv_shortcut="skip_connection")
    side, level, kind, index, rest = re.match(r"(down_blocks|up_blocks|mid_block)\.(?:(\d)\.)?(\w+)\.(\d)\.(.*)", name).groups()
    level, index = int(level or 0), int(index)
    if kind == "resnets":
        layer, tail = rest.rsplit(".", 1)
        rest = f"{resnet[layer]}.{tail}"
    place = int(kind == "attentions")
    if side == "mid_block":
        return f"middle_block.{2 * index + place}.{rest}"
    first = level * (layers + 1)
    if kind == "downsamplers":
        return f"input_blocks.{first + layers + 1}.0.op.{rest.split('.')[-1]}"
    if kind == "upsamplers":
        return f"output_blocks.{first + layers}.2.{rest}"
    return f"{'input' if side == 'down_blocks' else 'output'}_blocks.{first + index + (side == 'down_blocks')}.{place}.{rest}"


def ldm_vae(name, levels=4):
    end = lambda m: f"{levels - 1 - int(m.group(1))}"
    name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m.group(1)) + 1}", name)
    name = name.replace("mid_block.attentions.0", "mid.attn_1")
    name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
    name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
    name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{end(m)}.block", name)
    name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{end(m)}.upsample", name)
    name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut").replace("group_norm", "norm")
    return re.sub(r"to_([qkv])\.", r"\1.", name).replace("to_out.0", "proj_out")


def open_clip(shapes):
    """transformers' names and shapes of the second text encoder to those of open_clip, which keeps query, key and value in one tensor."""
    result = {}
    parts = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj", "self_attn.out_proj": "attn.out_proj"}
    fixed = {"text_model.embeddings.token_embedding.weight": "token_embedding.weight", "text_model.embeddings.position_embedding.weight": "positional_embedding",
             "text_model.final_layer_norm.weight": "ln_final.weight", "text_model.final_layer_norm.bias": "ln_final.bias"}
    for name, shape in shapes.items():
        if name in fixed:
            result[fixed[name]] = shape
        elif name == "text_projection.weight":
            result["text_projection"] = shape[::-1]
        else:
            layer, part, kind = re.match(r"text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)", name).groups()
            block = f"transformer.resblocks.{layer}."
            if part == "self_attn.q_proj":
                result[f"{block}attn.in_proj_{kind}"] = (3 * shape[0], *shape[1:])
            elif part in parts:
                result[f"{block}{parts[part]}.{kind}"] = shape
    return result


def single_file(shapes):
    result = {"model.diffusion_model." + ldm_unet(k): s for k, s in shapes["unet"].items()}
    for k, s in shapes["vae"].items():
        result["first_stage_model." + ldm_vae(k)] = (*s, 1, 1) if ".attentions." in k and len(s) == 2 else s
    # transformers 5 saves the first encoder without the prefix that checkpoints have.
    for k, s in shapes["text_encoder"].items():
        result["conditioner.embedders.0.transformer." + (k if k.startswith("text_model.") else "text_model." + k)] = s
    result.update({"conditioner.embedders.1.model." + k: s for k, s in open_clip(shapes["text_encoder_2"]).items()})
    return result


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--single", type=Path)
    parser.add_argument("--shapes", type=Path, help="takes the names and shapes of the checkpoint of one file alone, for a test that makes a sparse one")
    parser.add_argument("--type", choices=TYPES, default="fp16")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    with torch.device("meta"):
        models = dict(unet=UNet2DConditionModel(**UNET), vae=AutoencoderKL(**VAE), text_encoder=CLIPTextModel(CLIPTextConfig(**TEXT_1)),
                      text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_2)))
    shapes = {k: shapes_of(m) for k, m in models.items()}
    variant = "fp16." if args.type == "fp16" else ""
    if args.out:
        for name, model in models.items():
            diffusers_own = name in ("unet", "vae")
            (model.save_config if diffusers_own else model.config.save_pretrained)(args.out / name)
            base = "diffusion_pytorch_model" if diffusers_own else "model"
            write_safetensors(args.out / name / f"{base}.{variant}safetensors", shapes[name], args.type, args.seed)
        EulerDiscreteScheduler(**SCHEDULER).save_pretrained(args.out / "scheduler")
        parts = dict(scheduler=("diffusers", "EulerDiscreteScheduler"), text_encoder=("transformers", "CLIPTextModel"),
                     text_encoder_2=("transformers", "CLIPTextModelWithProjection"), tokenizer=("transformers", "CLIPTokenizer"),
                     tokenizer_2=("transformers", "CLIPTokenizer"), unet=("diffusers", "UNet2DConditionModel"), vae=("diffusers", "AutoencoderKL"))
        index = {"_class_name": "StableDiffusionXLPipeline", "force_zeros_for_empty_prompt": True, **{k: list(v) for k, v in parts.items()}}
        (args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        for padding, folder in (("<|endoftext|>", "tokenizer"), ("!", "tokenizer_2")):
            write_tokenizer(args.out / folder, padding)
    if args.shapes:
        made_by = dict(command="python training/make_full_size.py --shapes FILE", diffusers=diffusers.__version__, transformers=transformers.__version__)
        with gzip.GzipFile(args.shapes, "wb", 9, mtime=0) as file:
            file.write(json.dumps(dict(madeBy=made_by, shapes={k: list(s) for k, s in single_file(shapes).items()})).encode())
    if args.single:
        write_safetensors(args.single, single_file(shapes), args.type, args.seed)


def write_tokenizer(folder, padding):
    """CLIP's own tokenizer, from the merges that come with the engine."""
    merges = gzip.open(Path(__file__).resolve().parent.parent / "models/clip-tokenizer/merges.txt.gz", "rt", encoding="utf8").read().split("\n")[:-1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = symbols + [s + "</w>" for s in symbols] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False), encoding="utf8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf8")
    special = dict(bos_token="<|startoftext|>", eos_token="<|endoftext|>", unk_token="<|endoftext|>", pad_token=padding)
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    config = dict(**special, tokenizer_class="CLIPTokenizer", model_max_length=77, do_lower_case=True, errors="replace", add_prefix_space=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
