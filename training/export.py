"""Writes the trained model as an ONNX folder laid out like Stability's SDXL repository, and reads such a folder back.

python export.py --out ../models/emoji-xl --encoder-out checkpoints/vae_encoder.npz [--steps 20] [--guidance 4]

Weights are stored as float16 initializers under their PyTorch names, each followed by a Cast to float32, so the files are the checkpoint as well: `load_exported` and
`load_pipeline` get the very same weights back.
"""

import argparse
import json
import shutil
from pathlib import Path

import diffusers
import numpy as np
import onnx
import torch
import transformers
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from onnx import TensorProto, helper, numpy_helper
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import SCALING_FACTOR, SCHEDULER_CONFIG, SIZE, VAE_CONFIG, add_work_argument, make_models, setup

OPSET = 17


def half_round(model):
    """Rounds a model's parameters to what float16 can hold."""
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(p.half().float())
    return model


class TextWrapper(torch.nn.Module):
    def __init__(self, model, projection):
        super().__init__()
        self.model = model
        self.projection = projection

    def forward(self, input_ids):
        out = self.model(input_ids, output_hidden_states=True)
        if self.projection:
            return (out.text_embeds, out.last_hidden_state, *out.hidden_states)
        return (out.last_hidden_state, out.pooler_output, *out.hidden_states)


class UNetWrapper(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, encoder_hidden_states, text_embeds, time_ids):
        conditions = dict(text_embeds=text_embeds, time_ids=time_ids)
        return self.model(sample, timestep, encoder_hidden_states, added_cond_kwargs=conditions, return_dict=False)[0]


class DecoderWrapper(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, latent_sample):
        return self.model.decode(latent_sample, return_dict=False)[0]


def store_half(path):
    """Turns the float32 initializers into float16 ones, each with a Cast behind it, and drops the wrapper's name prefix."""
    model = onnx.load(path)
    graph = model.graph
    renamed, casts, kept = {}, [], []
    for tensor in graph.initializer:
        name = tensor.name.removeprefix("model.")
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            half = values.astype(np.float16)
            assert np.isfinite(half).all(), name
            kept.append(numpy_helper.from_array(half, name))
            renamed[tensor.name] = name + ".float32"
            casts.append(helper.make_node("Cast", [name], [name + ".float32"], name=name + ".cast", to=TensorProto.FLOAT))
        else:
            renamed[tensor.name] = name
            tensor.name = name
            kept.append(tensor)
    nodes = list(graph.node)
    for node in nodes:
        for i, name in enumerate(node.input):
            if name in renamed:
                node.input[i] = renamed[name]
    del graph.node[:]
    graph.node.extend(casts + nodes)
    del graph.initializer[:]
    graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def export_model(wrapper, inputs, path, input_names, output_names, axes):
    path.parent.mkdir(parents=True, exist_ok=True)
    wrapper.eval()
    # Every parameter keeps its own initializer, also where two hold the same numbers.
    torch._C._jit_pass_onnx_deduplicate_initializers = lambda graph, params, training: params
    with torch.no_grad():
        torch.onnx.export(
            wrapper, inputs, str(path), input_names=input_names, output_names=output_names, dynamic_axes=axes,
            opset_version=OPSET, do_constant_folding=False, dynamo=False,
        )
    store_half(path)


def load_exported(model, path, prefixes=None):
    """Loads the initializers of an exported file into a PyTorch model, by name."""
    weights = {
        t.name: torch.from_numpy(numpy_helper.to_array(t).astype(np.float32))
        for t in onnx.load(path).graph.initializer
        if t.data_type == TensorProto.FLOAT16
    }
    state = model.state_dict()
    expected = {k for k, v in state.items() if v.dtype.is_floating_point and (prefixes is None or k.startswith(prefixes))}
    missing = expected - set(weights)
    assert not missing, f"{path} lacks {sorted(missing)[:5]}"
    model.load_state_dict({k: weights[k] for k in expected}, strict=False)
    return model


def load_pipeline(folder):
    """The diffusers pipeline of an exported folder, in float32 on the shipped weights. Its VAE can only decode."""
    folder = Path(folder)
    config = lambda name: json.loads((folder / name / "config.json").read_text())
    text_encoder = CLIPTextModel(CLIPTextConfig(**config("text_encoder"))).eval()
    text_encoder_2 = CLIPTextModelWithProjection(CLIPTextConfig(**config("text_encoder_2"))).eval()
    unet = UNet2DConditionModel.from_config(config("unet")).eval()
    vae = AutoencoderKL.from_config(config("vae_decoder")).eval()
    load_exported(text_encoder, folder / "text_encoder/model.onnx")
    load_exported(text_encoder_2, folder / "text_encoder_2/model.onnx")
    load_exported(unet, folder / "unet/model.onnx")
    load_exported(vae, folder / "vae_decoder/model.onnx", ("decoder.", "post_quant_conv."))
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
        unet=unet,
        scheduler=EulerDiscreteScheduler.from_pretrained(folder / "scheduler"),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


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
    parser.add_argument("--encoder-out", type=Path, help="also write the autoencoder's encoder half, which the folder lacks, to this .npz file")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    args = parser.parse_args()
    setup(args)
    out = args.out
    text_encoder, text_encoder_2, unet, vae = load_trained(args.work)
    for model in (text_encoder, text_encoder_2, unet, vae):
        half_round(model).eval()

    for folder in ("tokenizer", "tokenizer_2"):
        shutil.copytree(args.work / "tok" / folder, out / folder, dirs_exist_ok=True)

    for folder, model, projection in (("text_encoder", text_encoder, False), ("text_encoder_2", text_encoder_2, True)):
        model.config._attn_implementation = "eager"
        config = model.config.to_dict()
        config.update(architectures=[type(model).__name__], transformers_version=transformers.__version__, dtype="float32")
        for key in ("_name_or_path", "output_hidden_states", "torch_dtype"):
            config.pop(key, None)
        write_json(out / folder / "config.json", config)
        layers = model.config.num_hidden_layers
        first = ["text_embeds", "last_hidden_state"] if projection else ["last_hidden_state", "pooler_output"]
        names = first + [f"hidden_states.{i}" for i in range(layers + 1)]
        axes = {n: {0: "batch_size", 1: "sequence_length"} for n in names + ["input_ids"] if n not in ("text_embeds", "pooler_output")}
        axes.update({n: {0: "batch_size"} for n in first if n in ("text_embeds", "pooler_output")})
        ids = torch.randint(0, 100, (2, 77))
        ids[:, 5:] = model.config.eos_token_id
        export_model(TextWrapper(model, projection), (ids,), out / folder / "model.onnx", ["input_ids"], names, axes)

    write_json(out / "unet/config.json", {"_class_name": "UNet2DConditionModel", "_diffusers_version": diffusers.__version__,
                                          **{k: v for k, v in unet.config.items() if not k.startswith("_")}})
    n = unet.config.sample_size
    sample = torch.randn(2, unet.config.in_channels, n, n)
    hidden = torch.randn(2, 77, unet.config.cross_attention_dim)
    pooled = torch.randn(2, text_encoder_2.config.projection_dim)
    export_model(
        UNetWrapper(unet), (sample, torch.tensor([500.0]), hidden, pooled, torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)),
        out / "unet/model.onnx", ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"], ["out_sample"],
        dict(
            sample={0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}, timestep={0: "steps"},
            encoder_hidden_states={0: "batch_size", 1: "sequence_length"}, text_embeds={0: "batch_size"},
            time_ids={0: "batch_size"}, out_sample={0: "batch_size", 1: "num_channels", 2: "height", 3: "width"},
        ),
    )
    write_json(out / "vae_decoder/config.json", {"_class_name": "AutoencoderKL", "_diffusers_version": diffusers.__version__,
                                                 **{k: v for k, v in vae.config.items() if not k.startswith("_")}})
    export_model(
        DecoderWrapper(vae), (torch.randn(2, unet.config.in_channels, n, n),), out / "vae_decoder/model.onnx", ["latent_sample"], ["sample"],
        dict(latent_sample={0: "batch_size", 1: "num_channels_latent", 2: "height_latent", 3: "width_latent"},
             sample={0: "batch_size", 1: "num_channels", 2: "height", 3: "width"}),
    )
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
        defaultSteps=args.steps, defaultGuidanceScale=args.guidance, defaultWidth=SIZE, defaultHeight=SIZE, previewFactors=factors, previewBias=bias))
    if args.encoder_out:
        args.encoder_out.parent.mkdir(parents=True, exist_ok=True)
        half = {k: v.half().numpy() for k, v in vae.state_dict().items() if k.startswith(("encoder.", "quant_conv."))}
        np.savez_compressed(args.encoder_out, **half, **{"latents.mean": data["mean"].numpy(), "latents.std": data["std"].numpy()})
    total = sum(f.stat().st_size for f in out.rglob("*") if f.is_file())
    print(f"{out}: {total / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
