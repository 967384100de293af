"""Golden images of LoRAs, made by diffusers' load_lora_weights on the small SDXL of test/golden/graphs.

python lora_goldens.py --out ../test/golden/graphs

Two LoRAs, each in several dialects; diffusers has to give the same image for all dialects of one. Their values are not stored: `weights` of make-goldens.py makes them from
the layers' names, and test/fixtures/lora-file.ts makes the same ones.
"""

import argparse
import base64
import importlib.util
import json
import platform
import re
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import peft
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from make_full_size import ldm_unet

GRAPHS = Path(__file__).resolve().parent.parent / "test/golden/graphs"
spec = importlib.util.spec_from_file_location("make_goldens", GRAPHS / "make-goldens.py")
base = importlib.util.module_from_spec(spec)
spec.loader.exec_module(base)

# Which layers each changes, and with which rank and alpha: the first pattern that fits. Alpha none: as large as the rank.
UNET_WIDE = r"(to_[qv]|to_out\.0|ff\.net\.(0\.proj|2)|proj_in|proj_out|conv1|conv_shortcut|time_emb_proj|samplers\.0\.conv|conv_in|conv_out|time_embedding\.linear_1)$"
TEXT_WIDE = r"(self_attn\.(q|v|out)_proj|mlp\.fc[12]|^text_projection)$"
UNET_NARROW = r"attn[12]\.(to_[qkv]|to_out\.0)$"
TEXT_NARROW = r"self_attn\.(q|k|v|out)_proj$"
LORAS = dict(
    wide=dict(layers=dict(unet=UNET_WIDE, text_encoder=TEXT_WIDE, text_encoder_2=TEXT_WIDE), ranks=[(r"ff\.net\.2$", 2, 0.75), (r"", 4, 1.0)]),
    narrow=dict(layers=dict(unet=UNET_NARROW, text_encoder=TEXT_NARROW, text_encoder_2=TEXT_NARROW), ranks=[(r"", 3, None)]),
)
# What is generated: LoRAs with their scales.
CASES = dict(wide=dict(wide=0.8), narrow=dict(narrow=0.2), both=dict(wide=-0.5, narrow=0.25))
KOHYA = dict(unet="lora_unet_", text_encoder="lora_te1_", text_encoder_2="lora_te2_")


def models():
    unet, vae = UNet2DConditionModel(**base.UNET), AutoencoderKL(**base.VAE)
    one, two = CLIPTextModel(CLIPTextConfig(**base.TEXT_1)), CLIPTextModelWithProjection(CLIPTextConfig(**base.TEXT_2))
    parts = dict(unet=unet, vae=vae, text_encoder=one, text_encoder_2=two)
    return parts, {part: base.fill(model, part) for part, model in parts.items()}


def factors(lora, shapes):
    """(part, layer, down, up, rank, alpha) of each layer that a LoRA changes."""
    for part, pattern in LORAS[lora]["layers"].items():
        for name, shape in shapes[part].items():
            layer = name.removesuffix(".weight")
            if layer == name or len(shape) < 2 or not re.search(pattern, layer):
                continue
            rank, alpha = next((r, a) for p, r, a in LORAS[lora]["ranks"] if re.search(p, layer))
            up_shape = (shape[0], rank) + ((1, 1) if len(shape) == 4 else ())
            down, up = (torch.from_numpy(base.weights(f"{lora}.{part}.{layer}.{side}", s)) for side, s in (("down", (rank, *shape[1:])), ("up", up_shape)))
            yield part, layer, down, up, rank, alpha


def kohya(rows, stem_of):
    """sd-scripts: names with underscores, an alpha for each layer."""
    for part, layer, down, up, rank, alpha in rows:
        stem = KOHYA[part] + stem_of(part, layer).replace(".", "_")
        yield f"{stem}.lora_down.weight", down
        yield f"{stem}.lora_up.weight", up
        if alpha is not None:
            yield f"{stem}.alpha", torch.tensor(alpha)


def ldm(part, layer):
    return ldm_unet(layer + ".weight").removesuffix(".weight") if part == "unet" else layer


def plain(rows, down_end, up_end):
    """PEFT and diffusers: names with dots."""
    for part, layer, down, up, *_ in rows:
        yield f"{part}.{layer}{down_end}", down
        yield f"{part}.{layer}{up_end}", up


def older(rows):
    """diffusers in 2023: the factors hang on the attention's processors."""
    for part, layer, down, up, *_ in rows:
        stem = re.sub(r"\.(to_[qkv]|to_out)(\.0)?$", r".processor.\1_lora", layer) if part == "unet" else re.sub(r"\.(q|k|v|out)_proj$", r".to_\1_lora", layer)
        yield f"{part}.{stem}.down.weight", down
        yield f"{part}.{stem}.up.weight", up


def metadata(lora, rows):
    """As save_lora_weights writes it."""
    # transformers 5 has the first encoder without the prefix that the names in the wild have; PEFT takes the end of a name.
    bare = lambda layer: layer.removeprefix("text_model.")
    patterns, config = LORAS[lora]["ranks"], {}
    _, rank, alpha = patterns[-1]
    for part in KOHYA:
        own = [(layer, r, a) for p, layer, _, _, r, a in rows if p == part]
        config.update({f"{part}.r": rank, f"{part}.lora_alpha": alpha or rank, f"{part}.target_modules": [bare(layer) for layer, _, _ in own],
                       f"{part}.rank_pattern": {layer: r for layer, r, _ in own if r != rank}, f"{part}.alpha_pattern": {layer: a for layer, _, a in own if a != alpha}})
    return {"lora_adapter_metadata": json.dumps(config)}


def dialects(lora, shapes):
    rows = list(factors(lora, shapes))
    if lora == "wide":
        yield "kohya", dict(kohya(rows, ldm)), {}
        yield "kohya with diffusers' names", dict(kohya(rows, lambda part, layer: layer)), {}
        yield "PEFT", dict(plain(rows, ".lora_A.weight", ".lora_B.weight")), metadata(lora, rows)
    else:
        yield "diffusers of 2023", dict(older(rows)), {}
        yield "diffusers", dict(plain([r for r in rows if r[0] == "unet"], ".lora.down.weight", ".lora.up.weight")) | dict(
            plain([r for r in rows if r[0] != "unet"], ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")), {}


def changed_layers(model):
    return sum("lora_A" in name for name, _ in model.named_parameters())


def generate(files, scales):
    parts, _ = models()
    one, two = parts["text_encoder"], parts["text_encoder_2"]
    pipe = StableDiffusionXLPipeline(**parts, tokenizer=None, tokenizer_2=None, scheduler=EulerDiscreteScheduler(**base.SCHEDULER), force_zeros_for_empty_prompt=True,
                                     add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    for name, file in files.items():
        pipe.load_lora_weights(str(file.parent), weight_name=file.name, adapter_name=name)
    pipe.set_adapters(list(scales), list(scales.values()))
    counts = {part: changed_layers(model) for part, model in parts.items() if part != "vae"}

    def embed(words):
        rows = [torch.tensor([[49406, *words, 49407] + [padding] * (75 - len(words))]) for padding in (49407, 0)]
        a, b = one(rows[0], output_hidden_states=True), two(rows[1], output_hidden_states=True)
        return torch.cat([a.hidden_states[-2], b.hidden_states[-2]], -1), b.text_embeds

    # "a red apple" and "blue" by CLIP's vocabulary; the test cuts the words itself.
    prompt, negative = embed([320, 736, 3055]), embed([1746])
    image = pipe(prompt_embeds=prompt[0], pooled_prompt_embeds=prompt[1], negative_prompt_embeds=negative[0], negative_pooled_prompt_embeds=negative[1], height=64, width=64,
                 num_inference_steps=4, guidance_scale=5.0, generator=torch.Generator().manual_seed(42), output_type="np").images[0]
    return (image * 255).round().astype(np.uint8), counts


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    _, shapes = models()
    goldens = {}
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for lora in LORAS:
            for dialect, tensors, more in dialects(lora, shapes):
                file = Path(folder) / f"{lora} {dialect}.safetensors"
                save_file({k: v.contiguous() for k, v in tensors.items()}, file, metadata={"format": "pt", **more})
                files.setdefault(lora, {})[dialect] = file
        for case, scales in CASES.items():
            first = None
            combinations = files[case].items() if case in files else [("first of each", None)]
            for dialect, file in combinations:
                taken = {case: file} if file else {lora: next(iter(files[lora].values())) for lora in scales}
                image, counts = generate(taken, scales)
                first = image if first is None else first
                off = int(np.abs(image.astype(int) - first).max())
                print(case, dialect, counts, "largest difference to the first dialect:", off)
                assert off <= 1, "the dialects are one LoRA"
            goldens[case] = dict(scales=scales, width=64, height=64, pixels=base64.b64encode(first.tobytes()).decode())
    described = {lora: dict(layers=d["layers"], ranks=[dict(pattern=p, rank=r, **({} if a is None else dict(alpha=a))) for p, r, a in d["ranks"]]) for lora, d in LORAS.items()}
    made_by = dict(command="python lora_goldens.py --out ../test/golden/graphs", python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__,
                   transformers=transformers.__version__, peft=peft.__version__, numpy=np.__version__, machine=platform.machine())
    (args.out / "loras.json").write_text(json.dumps(dict(madeBy=made_by, loras=described, images=goldens)) + "\n")


if __name__ == "__main__":
    main()
