"""Draws pictures, from an exported folder or from the training checkpoint, and lays them out as a contact sheet.

python sample.py --model ../models/emoji-xl --out contact-sheet.png          the 48 prompts of prompts.txt
python sample.py --out now.png --prompts "a red heart; a cat, flat style"    from WORK's checkpoint
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from common import HERE, SCHEDULER_CONFIG, SIZE, add_work_argument, setup


def pipeline(args):
    from export import load_pipeline, load_trained

    if args.model:
        return load_pipeline(args.model)
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
