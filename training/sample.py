"""Draws pictures, from an exported folder (in onnxruntime, with diffusers' scheduler) or from the training checkpoint (in diffusers), and lays them out as a contact sheet.

python sample.py --model ../models/emoji-xl --out contact-sheet.png          the 48 prompts of prompts.txt
python sample.py --out now.png --prompts "a red heart; a cat, flat style"    from WORK's checkpoint
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from common import HERE, SCHEDULER_CONFIG, SIZE, TIME_IDS, add_work_argument, setup


class Exported:
    """An exported folder in onnxruntime. Draws what StableDiffusionXLPipeline draws (check.py compares them), in half the time."""

    def __init__(self, folder, threads):
        import onnxruntime as ort
        from diffusers import EulerDiscreteScheduler
        from transformers import CLIPTokenizer

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = lambda name: ort.InferenceSession(str(folder / name / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self.text, self.text_2, self.unet, self.decoder = map(session, ("text_encoder", "text_encoder_2", "unet", "vae_decoder"))
        self.tokenizers = [CLIPTokenizer.from_pretrained(folder / n) for n in ("tokenizer", "tokenizer_2")]
        self.scheduler = EulerDiscreteScheduler.from_pretrained(folder / "scheduler")
        self.config = json.loads((folder / "unet/config.json").read_text())
        self.scaling_factor = json.loads((folder / "vae_decoder/config.json").read_text())["scaling_factor"]

    def decode(self, latents):
        return torch.from_numpy(self.decoder.run(None, {"latent_sample": (latents / self.scaling_factor).numpy()})[0])

    def __call__(self, prompts, seeds, steps, guidance):
        ids = [np.array(t(prompts, padding="max_length", max_length=77, truncation=True).input_ids, dtype=np.int64) for t in self.tokenizers]
        last = lambda s: "hidden_states.%d" % (sum(o.name.startswith("hidden_states.") for o in s.get_outputs()) - 2)
        first = self.text.run([last(self.text)], {"input_ids": ids[0]})[0]
        pooled, second = self.text_2.run(["text_embeds", last(self.text_2)], {"input_ids": ids[1]})
        hidden = np.concatenate([first, second], -1)
        n = SIZE // 8
        x = torch.cat([torch.randn(1, self.config["in_channels"], n, n, generator=torch.Generator().manual_seed(s)) for s in seeds])
        self.scheduler.set_timesteps(steps)
        x = x * self.scheduler.init_noise_sigma
        feed = dict(time_ids=np.array([TIME_IDS] * len(x), dtype=np.float32))
        for t in self.scheduler.timesteps:
            feed.update(sample=self.scheduler.scale_model_input(x, t).numpy(), timestep=np.array([float(t)], dtype=np.float32))
            out = self.unet.run(None, dict(feed, encoder_hidden_states=hidden, text_embeds=pooled))[0]
            if guidance > 1:
                plain = self.unet.run(None, dict(feed, encoder_hidden_states=np.zeros_like(hidden), text_embeds=np.zeros_like(pooled)))[0]
                out = plain + guidance * (out - plain)
            x = self.scheduler.step(torch.from_numpy(out), t, x).prev_sample
        return (self.decode(x) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def pipeline(args):
    from export import load_trained

    if args.model:
        return Exported(args.model, args.threads)
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTokenizer

    text_encoder, text_encoder_2, unet, vae = load_trained(args.work)
    return StableDiffusionXLPipeline(
        vae=vae.eval(), text_encoder=text_encoder.eval(), text_encoder_2=text_encoder_2.eval(), unet=unet.eval(),
        tokenizer=CLIPTokenizer.from_pretrained(args.work / "tok/tokenizer"),
        tokenizer_2=CLIPTokenizer.from_pretrained(args.work / "tok/tokenizer_2"),
        scheduler=EulerDiscreteScheduler(**SCHEDULER_CONFIG), force_zeros_for_empty_prompt=True, add_watermarker=False,
    )


def draw(pipe, prompts, seeds, steps=20, guidance=4.0, batch=8):
    """uint8 N x 128 x 128 x 3, one picture for each prompt, each from its own seed."""
    out = []
    for i in range(0, len(prompts), batch):
        if isinstance(pipe, Exported):
            images = pipe(prompts[i : i + batch], seeds[i : i + batch], steps, guidance)
            out.append((images * 255).round().astype(np.uint8))
            continue
        pipe.set_progress_bar_config(disable=True)
        generators = [torch.Generator().manual_seed(s) for s in seeds[i : i + batch]]
        images = pipe(prompts[i : i + batch], num_inference_steps=steps, guidance_scale=guidance, height=SIZE, width=SIZE,
                      generator=generators, output_type="np").images
        out.append((images * 255).round().astype(np.uint8))
    return np.concatenate(out)


def contact_sheet(pictures, labels, columns):
    rows = -(-len(pictures) // columns)
    band = 16
    sheet = Image.new("RGB", (columns * SIZE, rows * (SIZE + band)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (picture, label) in enumerate(zip(pictures, labels)):
        x, y = i % columns * SIZE, i // columns * (SIZE + band)
        sheet.paste(Image.fromarray(picture), (x, y))
        pen.text((x + 3, y + SIZE + 1), label[:22], fill=(90, 90, 90))
    return sheet


def add_drawing_arguments(parser):
    parser.add_argument("--model", type=Path, help="an exported folder; without it the checkpoint under --work is used")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--spacing", choices=["leading", "trailing", "linspace"], help="another timestep spacing than the scheduler's own")


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    add_drawing_arguments(parser)
    parser.add_argument("--prompts", help="prompts with semicolons between them, instead of prompts.txt")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    setup(args)
    pipe = pipeline(args)
    if args.spacing:
        pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, timestep_spacing=args.spacing)
    prompts = [p.strip() for p in args.prompts.split(";")] if args.prompts else (HERE / "prompts.txt").read_text().splitlines()
    pictures = draw(pipe, prompts, [args.first_seed + i for i in range(len(prompts))], args.steps, args.guidance)
    contact_sheet(pictures, prompts, args.columns).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
