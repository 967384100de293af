"""Writes a folder of SDXL base 1.0's own size with random weights, to see that what is as large as the real model loads and runs.

python make_full_size.py --out DIR [--tokenizer ../models/emoji-xl] [--seed 1]

The architecture, file layout and float16 external data are those of the real model; the pictures are noise. No part is ever held in memory as a whole: the graphs are traced
on parameters that are one number each, seen through a stride of zero, and the weights are drawn tensor by tensor into the data files. About 7 GB on disk, and 2 GB of memory.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from onnx import TensorProto, numpy_helper
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from export import OPSET, DecoderWrapper, TextWrapper, UNetWrapper, write_json

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
TEXT = dict(vocab_size=49408, max_position_embeddings=77)
TEXT_1 = dict(**TEXT, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu", projection_dim=768)
TEXT_2 = dict(**TEXT, hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu", projection_dim=1280)
SCHEDULER = dict(
    _class_name="EulerDiscreteScheduler", beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000,
    prediction_type="epsilon", timestep_spacing="leading", steps_offset=1, interpolation_type="linear", use_karras_sigmas=False,
)
PARAMETERS = {"unet": 2_567_463_684, "text_encoder": 123_060_480, "text_encoder_2": 694_659_840}
LARGEST_DRAW = 1 << 24
TRACED = torch.bfloat16


def weightless(build):
    """A model whose parameters take two bytes each, whatever their shape. It is bfloat16, which a CPU traces faster than float16."""
    with torch.device("meta"):
        model = build().to(TRACED).eval()
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None:
                one = torch.full((1,), 1e-3, dtype=TRACED).expand(parameter.shape)
                module._parameters[name] = torch.nn.Parameter(one, requires_grad=False)
        for name, buffer in list(module._buffers.items()):
            if buffer is not None:
                assert name == "position_ids", name
                module._buffers[name] = torch.arange(buffer.shape[-1]).expand(buffer.shape)
    return model


def to_half(graph):
    """Makes float16 of every bfloat16 in a graph without initializers."""
    limit = np.finfo(np.float16).max
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.type.tensor_type.elem_type == TensorProto.BFLOAT16:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.BFLOAT16:
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t") and attribute.t.data_type == TensorProto.BFLOAT16:
                values = numpy_helper.to_array(attribute.t).astype(np.float32)
                attribute.t.CopyFrom(numpy_helper.from_array(values.clip(-limit, limit).astype(np.float16)))


def deviation(name, shape):
    """Weights that keep the size of what passes through them; norms are handled by the caller."""
    if "embedding" in name and len(shape) == 2 and "time" not in name and "add_" not in name:
        return 0.02
    return 0.7 / np.sqrt(np.prod(shape[1:]))


def draw(file, name, shape, random):
    """Appends one tensor to the data file and returns its place."""
    file.write(b"\0" * (-file.tell() % 4096))
    offset, count = file.tell(), int(np.prod(shape))
    for start in range(0, count, LARGEST_DRAW):
        length = min(LARGEST_DRAW, count - start)
        if len(shape) == 1:
            values = np.full(length, 1 if name.endswith("weight") else 0, dtype=np.float16)
        else:
            values = (random.standard_normal(length, dtype=np.float32) * np.float32(deviation(name, shape))).astype(np.float16)
        file.write(values.tobytes())
    return offset, file.tell() - offset


def fold_transposes(graph, shapes):
    """Takes the transposed weight as the weight, as exporters do that have the numbers: else onnxruntime copies all of them at load."""
    folded, kept = {}, []
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in shapes and list(node.attribute[0].ints) == [1, 0]:
            folded[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    straight = {name for node in kept for name in node.input if name in shapes}
    for name in set(folded.values()):
        assert name not in straight, name
        shapes[name] = (shapes[name][::-1], True)
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = folded.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def write_graph(path, wrapper, inputs, names, outputs, axes, random):
    path.parent.mkdir(parents=True, exist_ok=True)
    inputs = tuple(torch.zeros(shape, dtype=dtype) for shape, dtype in inputs)
    with torch.no_grad():
        torch.onnx.export(
            wrapper, inputs, str(path), input_names=names, output_names=outputs, dynamic_axes=axes, opset_version=OPSET,
            do_constant_folding=False, export_params=False, keep_initializers_as_inputs=True, dynamo=False,
        )
    model = onnx.load(path)
    graph = model.graph
    to_half(graph)
    weights = [value for value in graph.input if value.name not in names]
    shapes = {value.name: tuple(d.dim_value for d in value.type.tensor_type.shape.dim) for value in weights}
    real = [value for value in graph.input if value.name in names]
    types = {value.name: value.type.tensor_type.elem_type for value in weights}
    del graph.input[:]
    graph.input.extend(real)
    fold_transposes(graph, shapes)
    data = path.with_name(path.name + "_data")
    total = 0
    with data.open("wb") as file:
        for name, shape in shapes.items():
            shape, transposed = shape if isinstance(shape[-1], bool) else (shape, False)
            assert types[name] == TensorProto.FLOAT16, (name, types[name])
            tensor = graph.initializer.add(name=name, data_type=TensorProto.FLOAT16, dims=shape, data_location=TensorProto.EXTERNAL)
            offset, length = draw(file, name, shape[::-1] if transposed else shape, random)
            for key, value in (("location", data.name), ("offset", offset), ("length", length)):
                tensor.external_data.add(key=key, value=str(value))
            total += int(np.prod(shape))
    onnx.save(model, path)
    print(f"{path}: {len(graph.node)} nodes, {total:,} weights, {data.stat().st_size / 1e9:.2f} GB", flush=True)
    expected = PARAMETERS.get(path.parent.name, total)
    assert total == expected, f"{total} weights, the real one has {expected}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, default=Path(__file__).parent / "../models/emoji-xl", help="folder to take the two tokenizers from")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    out, random = args.out, np.random.default_rng(args.seed)

    for folder in ("tokenizer", "tokenizer_2"):
        shutil.copytree(args.tokenizer / folder, out / folder, dirs_exist_ok=True)
    source = json.loads((args.tokenizer / "text_encoder/config.json").read_text())
    special = {key: source[key] for key in ("bos_token_id", "eos_token_id")}
    write_json(out / "scheduler/scheduler_config.json", SCHEDULER)
    write_json(out / "model_index.json", dict(_class_name="StableDiffusionXLPipeline", force_zeros_for_empty_prompt=True))

    for folder, settings, projection in (("text_encoder", TEXT_1, False), ("text_encoder_2", TEXT_2, True)):
        config = CLIPTextConfig(**settings, **special)
        config._attn_implementation = "eager"
        model = weightless(lambda: (CLIPTextModelWithProjection if projection else CLIPTextModel)(config))
        layers = config.num_hidden_layers
        outputs = (["text_embeds", "last_hidden_state"] if projection else ["last_hidden_state", "pooler_output"]) + [f"hidden_states.{i}" for i in range(layers + 1)]
        write_json(out / folder / "config.json", {**settings, **special})
        axes = {name: {0: "batch_size"} for name in ["input_ids", *outputs]}
        write_graph(out / folder / "model.onnx", TextWrapper(model, projection), [((2, 77), torch.long)], ["input_ids"], outputs, axes, random)

    write_json(out / "vae_decoder/config.json", dict(_class_name="AutoencoderKL", **VAE))
    vae = weightless(lambda: AutoencoderKL(**VAE))
    space = {0: "batch_size", 2: "height", 3: "width"}
    write_graph(
        out / "vae_decoder/model.onnx", DecoderWrapper(vae), [((2, 4, 8, 8), TRACED)], ["latent_sample"], ["sample"],
        dict(latent_sample=space, sample={0: "batch_size", 2: "image_height", 3: "image_width"}), random,
    )

    write_json(out / "unet/config.json", dict(_class_name="UNet2DConditionModel", **UNET))
    unet = weightless(lambda: UNet2DConditionModel(**UNET))
    half = lambda *shape: (shape, TRACED)
    names = ["sample", "timestep", "encoder_hidden_states", "text_embeds", "time_ids"]
    axes = {name: {0: "batch_size"} for name in names if name != "timestep"}
    axes.update(timestep={0: "steps"}, sample=space, out_sample=space)
    inputs = [half(2, 4, 8, 8), ((1,), torch.long), half(2, 77, 2048), half(2, 1280), half(2, 6)]
    write_graph(out / "unet/model.onnx", UNetWrapper(unet), inputs, names, ["out_sample"], axes, random)


if __name__ == "__main__":
    main()
