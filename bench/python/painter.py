"""Paints the request that each line of its standard input holds, as JSON, and answers with how long it took.

python bench/python/painter.py --engine torch|onnxruntime --model models/emoji-xl --threads 2

`torch` is diffusers' StableDiffusionXLPipeline on PyTorch; `onnxruntime` is diffusers' scheduler around the folder's own graphs, as its ONNX
pipelines do it: guidance as one batch of two, NumPy arrays in and out. Needs what training/requirements.txt names.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))


def torch_painter(model):
    from export import load_pipeline

    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)

    def paint(request):
        return pipe(**request, generator=torch.Generator().manual_seed(request.pop("seed"))).images[0]

    return paint, dict(torch=torch.__version__)


def onnxruntime_painter(model, threads, spinning):
    import onnxruntime
    from diffusers import EulerDiscreteScheduler
    from PIL import Image
    from transformers import CLIPTokenizer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spinning else "0")
    open_session = lambda name: onnxruntime.InferenceSession(model / name / "model.onnx", options, providers=["CPUExecutionProvider"])
    encoders = [open_session("text_encoder"), open_session("text_encoder_2")]
    unet, vae = open_session("unet"), open_session("vae_decoder")
    tokenizers = [CLIPTokenizer.from_pretrained(model / "tokenizer"), CLIPTokenizer.from_pretrained(model / "tokenizer_2")]
    config = lambda name: json.loads((model / name / "config.json").read_text())
    layers = [config("text_encoder")["num_hidden_layers"], config("text_encoder_2")["num_hidden_layers"]]
    scaling, channels = config("vae_decoder")["scaling_factor"], config("unet")["in_channels"]
    scheduler = EulerDiscreteScheduler.from_pretrained(model / "scheduler")

    def encode(text):
        hidden = []
        for tokenizer, encoder, count in zip(tokenizers, encoders, layers):
            ids = tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
            names = [f"hidden_states.{count - 1}"] + (["text_embeds"] if encoder is encoders[1] else [])
            outputs = encoder.run(names, dict(input_ids=np.array([ids])))
            hidden.append(outputs[0])
        return np.concatenate(hidden, -1), outputs[1]

    def paint(request):
        width, height, scale = request["width"], request["height"], request["guidance_scale"]
        context, pooled = encode(request["prompt"])
        if scale > 1:
            context = np.concatenate([np.zeros_like(context), context])
            pooled = np.concatenate([np.zeros_like(pooled), pooled])
        batch = len(context)
        time_ids = np.array([[height, width, 0, 0, height, width]] * batch, np.float32)
        scheduler.set_timesteps(request["num_inference_steps"])
        shape = (1, channels, height // 8, width // 8)
        latents = torch.randn(shape, generator=torch.Generator().manual_seed(request["seed"])) * scheduler.init_noise_sigma
        for t in scheduler.timesteps:
            sample = scheduler.scale_model_input(latents, t).numpy().repeat(batch, 0)
            feeds = dict(sample=sample, timestep=np.array([t], np.float32), encoder_hidden_states=context, text_embeds=pooled, time_ids=time_ids)
            output = torch.from_numpy(unet.run(["out_sample"], feeds)[0])
            if batch == 2:
                without, conditioned = output.chunk(2)
                output = without + scale * (conditioned - without)
            latents = scheduler.step(output, t, latents).prev_sample
        pixels = vae.run(["sample"], dict(latent_sample=(latents / scaling).numpy()))[0][0]
        return Image.fromarray((np.clip(pixels.transpose(1, 2, 0) / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8))

    return paint, dict(onnxruntime=onnxruntime.__version__)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", choices=("torch", "onnxruntime"), required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--spinning", action="store_true", help="let onnxruntime's waiting threads spin, as they do unless they are told otherwise")
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    import diffusers

    torch.set_num_threads(args.threads)
    answer = lambda value: print(json.dumps(value), flush=True)
    with torch.no_grad():
        painter = torch_painter(args.model) if args.engine == "torch" else onnxruntime_painter(args.model, args.threads, args.spinning)
        paint, versions = painter
        answer(dict(ready=True, versions=dict(diffusers=diffusers.__version__, **versions)))
        for line in sys.stdin:
            request = json.loads(line)
            started = time.perf_counter()
            paint(request)
            answer(dict(ms=(time.perf_counter() - started) * 1000))


if __name__ == "__main__":
    main()
