"""Writes the trained model as a diffusers folder of safetensors in float16, and reads such a folder back.

python export.py --out ../models/emoji-xl [--encoder-out checkpoints/vae_encoder.npz] [--steps 20] [--guidance 4]

The folder is the checkpoint as well: `StableDiffusionXLPipeline.from_pretrained` loads it, and so do `load_exported` and `load_pipeline`. Its VAE has the encoder of
train_encoder.py where WORK/vae_encoder.pt is there.
"""

import argparse
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline
from safetensors.torch import load_file, save_file

from common import SCALING_FACTOR, SCHEDULER_CONFIG, SIZE, VAE_CONFIG, add_work_argument, make_models, setup


def weights_file(folder, part):
    return Path(folder) / part / ("diffusion_pytorch_model.safetensors" if part in ("unet", "vae") else "model.safetensors")


def save_half(model, part, out):
    """Writes a model's weights in float16, the first text encoder's under the names that every version of transformers reads."""
    weights = {}
    for name, value in model.state_dict().items():
        if not name.endswith("position_ids"):
            name = f"text_model.{name}" if part == "text_encoder" and not name.startswith("text_model.") else name
            weights[name] = value.half().contiguous()
            assert torch.isfinite(weights[name]).all(), name
    path = weights_file(out, part)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata=dict(format="pt"))


def load_exported(model, folder, part, prefixes=None):
    """Loads the weights of a part of an exported folder into a PyTorch model, by name."""
    weights = {k: v.float() for k, v in load_file(weights_file(folder, part)).items()}
    state = model.state_dict()
    if part == "text_encoder" and not any(k.startswith("text_model.") for k in state):
        weights = {k.removeprefix("text_model."): v for k, v in weights.items()}
    expected = {k for k, v in state.items() if v.dtype.is_floating_point and (prefixes is None or k.startswith(prefixes))}
    missing = expected - set(weights)
    assert not missing, f"{folder} lacks {sorted(missing)[:5]}"
    model.load_state_dict({k: weights[k] for k in expected}, strict=False)
    return model


def load_pipeline(folder):
    """The diffusers pipeline of an exported folder, in float32 on the shipped weights."""
    return StableDiffusionXLPipeline.from_pretrained(folder, dtype=torch.float32, add_watermarker=False)


def load_trained(work):
    """(text_encoder, text_encoder_2, unet) with the averaged weights, and the VAE with the latents' normalisation folded in."""
    models = make_models()
    state = torch.load(work / "unet.pt", weights_only=False)
    with torch.no_grad():
        for p, w in zip([p for m in models for p in m.parameters()], state["ema"]):
            p.copy_(w)
    vae = AutoencoderKL(**VAE_CONFIG, scaling_factor=SCALING_FACTOR, force_upcast=False)
    decoder = work / "vae_decoder.pt"
    vae.load_state_dict(torch.load(decoder if decoder.exists() else work / "vae.pt", weights_only=False)["model"])
    data = torch.load(work / "dataset.pt", weights_only=False)
    fold(vae, data["mean"], data["std"])
    encoder = work / "vae_encoder.pt"
    if encoder.exists():
        weights = torch.load(encoder, weights_only=False)["model"]
        vae.load_state_dict({k: v for k, v in weights.items() if k.startswith(("encoder.", "quant_conv."))}, strict=False)
    return *models, vae


def fold(vae, mean, std):
    """Lets post_quant_conv take normalised latents divided by the scaling factor."""
    with torch.no_grad():
        conv = vae.post_quant_conv
        weight = conv.weight[:, :, 0, 0]
        conv.bias.copy_(conv.bias + weight @ mean)
        conv.weight.copy_((weight * (std * SCALING_FACTOR)[None])[:, :, None, None])


def preview_factors(latents, pixels):
    """Least squares from clean latents in model space to the mean colour of each 8 x 8 cell, in -1..1."""
    rgb = torch.nn.functional.avg_pool2d(pixels, 8).permute(0, 2, 3, 1).reshape(-1, 3)
    flat = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    fit = torch.linalg.lstsq(torch.cat([flat, torch.ones(len(flat), 1)], 1), rgb).solution
    return [[round(v, 5) for v in row] for row in fit[:-1].tolist()], [round(v, 5) for v in fit[-1].tolist()]


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder-out", type=Path, help="also write the first encoder, which the recipe's latents come from, to this .npz file")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    setup(args)
    out = args.out
    text_encoder, text_encoder_2, unet, vae = load_trained(args.work)
    for folder in ("tokenizer", "tokenizer_2"):
        shutil.copytree(args.work / "tok" / folder, out / folder, dirs_exist_ok=True)

    for part, model in (("text_encoder", text_encoder), ("text_encoder_2", text_encoder_2)):
        config = model.config.to_dict()
        config.update(architectures=[type(model).__name__], transformers_version=transformers.__version__, dtype="float16")
        for key in ("_name_or_path", "output_hidden_states", "torch_dtype"):
            config.pop(key, None)
        write_json(out / part / "config.json", config)
        save_half(model, part, out)
    for part, model in (("unet", unet), ("vae", vae)):
        config = {k: v for k, v in model.config.items() if not k.startswith("_")}
        write_json(out / part / "config.json", {"_class_name": type(model).__name__, "_diffusers_version": diffusers.__version__, **config})
        save_half(model, part, out)
    scheduler = EulerDiscreteScheduler(**SCHEDULER_CONFIG)
    scheduler.save_pretrained(out / "scheduler")
    index = {"_class_name": "StableDiffusionXLPipeline", "_diffusers_version": diffusers.__version__, "force_zeros_for_empty_prompt": True}
    parts = dict(scheduler=("diffusers", "EulerDiscreteScheduler"), text_encoder=("transformers", "CLIPTextModel"),
                 text_encoder_2=("transformers", "CLIPTextModelWithProjection"), tokenizer=("transformers", "CLIPTokenizer"),
                 tokenizer_2=("transformers", "CLIPTokenizer"), unet=("diffusers", "UNet2DConditionModel"), vae=("diffusers", "AutoencoderKL"))
    write_json(out / "model_index.json", {**index, **{k: list(v) for k, v in parts.items()}})

    data = torch.load(args.work / "dataset.pt", weights_only=False)
    pixels = np.fromfile(args.work / "dataset.u8", dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)[::4]
    factors, bias = preview_factors(data["latents"][::4], torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)
    write_json(out / "throughline.json", dict(
        defaultSteps=args.steps, defaultGuidanceScale=args.guidance, defaultWidth=SIZE, defaultHeight=SIZE,
        examplePrompts=["a red heart", "a smiling face", "a slice of pizza", "a blue heart, flat style"],
        previewFactors=factors, previewBias=bias))
    if args.encoder_out:
        args.encoder_out.parent.mkdir(parents=True, exist_ok=True)
        first = torch.load(args.work / "vae.pt", weights_only=False)["model"]
        half = {k: v.half().numpy() for k, v in first.items() if k.startswith(("encoder.", "quant_conv."))}
        np.savez_compressed(args.encoder_out, **half, **{"latents.mean": data["mean"].numpy(), "latents.std": data["std"].numpy()})
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
