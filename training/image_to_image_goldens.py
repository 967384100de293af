"""Reference values of image to image, made by diffusers: images of the embedded model, and schedulers that begin in mid-way over random configurations.

python image_to_image_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers
"""

import argparse
import json
import platform
import random
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import (DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler,
                       StableDiffusionXLImg2ImgPipeline, UniPCMultistepScheduler)
from PIL import Image

from export import load_pipeline
from goldens import packed
from scheduler_goldens import SCHEDULERS as MULTISTEP
from scheduler_goldens import random_config

SEED = 5
SHAPE = (1, 4, 2, 2)
CASES = 10
# For each name: the class, and what the name fixes.
SCHEDULERS = {
    "euler-discrete": (EulerDiscreteScheduler, {}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp-2m": (DPMSolverMultistepScheduler, dict(algorithm_type="dpmsolver++", use_karras_sigmas=False)),
    "dpmpp-2m-karras": (DPMSolverMultistepScheduler, dict(algorithm_type="dpmsolver++", use_karras_sigmas=True)),
    "ddim": (DDIMScheduler, {}),
    "lcm": (LCMScheduler, {}),
    **MULTISTEP,
}
# The image to start from is a golden of the same model. A crop shows that width and height are not mixed up.
INPUT = "a-red-heart.png"
IMAGES = (
    dict(prompt="a blue heart", strength=0.6, num_inference_steps=8, guidance_scale=5.0, left=0, top=0, width=128, height=128),
    dict(prompt="a yellow star", negative_prompt="a heart", strength=0.3, num_inference_steps=10, guidance_scale=3.0, left=32, top=32, width=96, height=64),
    dict(prompt="a green tree", strength=1.0, num_inference_steps=4, guidance_scale=1.0, left=0, top=32, width=64, height=96),
)


def config_of(name, source):
    if SCHEDULERS[name][0] in (DPMSolverMultistepScheduler, UniPCMultistepScheduler):
        return random_config(name if name in MULTISTEP else "dpmpp-2m-sde", source)
    predictions = ["epsilon", "v_prediction"] + ([] if name == "euler-ancestral" else ["sample"])
    config = dict(beta_start=0.00085, beta_end=0.012, beta_schedule=source.choice(["scaled_linear", "linear"]),
                  prediction_type=source.choice(predictions), clip_sample=source.choice([True, False]))
    if name != "lcm":
        config.update(timestep_spacing=source.choice(["linspace", "leading", "trailing"]), steps_offset=source.choice([0, 1]))
    if name == "euler-discrete":
        config.update(use_karras_sigmas=source.choice([True, False]), final_sigmas_type=source.choice(["zero", "sigma_min"]))
    return config


def sample(name, config, steps, strength):
    """The sampling from an image, or None where diffusers makes another number of steps or has no result."""
    scheduler_class, fixed = SCHEDULERS[name]
    scheduler = scheduler_class.from_config(config, **fixed)
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps:
        return None
    # As `StableDiffusionXLImg2ImgPipeline.get_timesteps`.
    skipped = max(steps - min(int(steps * strength), steps), 0)
    timesteps = scheduler.timesteps[skipped:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    if len(timesteps) == 0:
        return None
    generator = torch.Generator().manual_seed(SEED)
    image, noise = torch.randn(SHAPE, generator=generator), torch.randn(SHAPE, generator=generator)
    latents = scheduler.add_noise(image, noise, timesteps[:1])
    draws = dict(generator=generator) if scheduler_class is not UniPCMultistepScheduler else {}
    largest = float(latents.abs().max())
    for t in timesteps:
        # Stands in for the model: exact in every library but for the rounding to float32.
        output = scheduler.scale_model_input(latents, t) * 0.125 + (float(t) / 1024 - 0.5)
        try:
            latents = scheduler.step(output, t, latents, **draws).prev_sample
        except torch.linalg.LinAlgError:
            return None
        largest = max(largest, float(latents.abs().max()))
    if not torch.isfinite(latents).all():
        return None
    # What the generator gives next shows how much was drawn.
    return dict(timesteps=[float(t) for t in timesteps], latents=packed(latents), largest=largest,
                next_draw=packed(torch.randn(16, generator=generator)[:1]))


def scheduler_cases():
    found = []
    for name in SCHEDULERS:
        source = random.Random(f"image to image {name}")
        count = 0
        while count < CASES:
            config, steps, strength = config_of(name, source), source.randint(1, 40), source.randint(1, 100) / 100
            result = sample(name, config, steps, strength)
            if result is not None:
                found.append(dict(scheduler=name, config=config, steps=steps, strength=strength, **result))
                count += 1
    return found


def image_cases(model, out):
    """Generates every image with each scheduler. Latents go to one file of float32, images to one sheet."""
    base = load_pipeline(model)
    pipe = StableDiffusionXLImg2ImgPipeline(**base.components, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    own = {k: v for k, v in json.loads((model / "scheduler/scheduler_config.json").read_text()).items() if not k.startswith("_")}
    picture = Image.open(out / INPUT).convert("RGB")
    cases, latents_file = [], bytearray()
    sheet = Image.new("RGB", (sum(image["width"] for image in IMAGES), len(SCHEDULERS) * 128))
    for row, (name, (scheduler_class, fixed)) in enumerate(SCHEDULERS.items()):
        pipe.scheduler = scheduler_class.from_config({**own, **fixed})
        x = 0
        for image in IMAGES:
            left, top, width, height = (image[key] for key in ("left", "top", "width", "height"))
            request = {key: value for key, value in image.items() if key not in ("left", "top", "width", "height")}
            seed = 2000 + len(cases)
            latents = pipe(**request, image=picture.crop((left, top, left + width, top + height)), generator=torch.Generator().manual_seed(seed),
                           output_type="latent").images
            with torch.no_grad():
                decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
            sheet.paste(pipe.image_processor.postprocess(decoded, output_type="pil")[0], (x, row * 128))
            cases.append(dict(image, scheduler=name, seed=seed, sheet_left=x, sheet_top=row * 128, offset=len(latents_file), length=latents.numel()))
            latents_file += latents.contiguous().numpy().astype("<f4").tobytes()
            x += width
    sheet.save(out / "image-to-image.png", optimize=True)
    (out / "image-to-image-latents.f32").write_bytes(latents_file)
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # One, so that sums are always added up in the same order.
    torch.set_num_threads(1)
    diffusers.logging.set_verbosity_error()
    made_by = dict(
        program="training/image_to_image_goldens.py",
        command="python image_to_image_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers",
        versions=dict(python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__, numpy=np.__version__),
        machine=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    )
    in_lines = lambda rows: "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]"
    schedulers, images = scheduler_cases(), image_cases(args.model, args.out)
    body = f' "seed": {SEED},\n "input": "{INPUT}",\n "schedulers": {in_lines(schedulers)},\n "images": {in_lines(images)}'
    (args.out / "image-to-image.json").write_text(f'{{\n "made_by": {json.dumps(made_by)},\n{body}\n}}\n')
    print(f"{len(schedulers)} samplings and {len(images)} images", file=sys.stderr)


if __name__ == "__main__":
    main()
