"""Reference values for the TypeScript engine, made by diffusers, transformers and torch.

python goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers
"""

import argparse
import base64
import json
import platform
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LCMScheduler
from PIL import Image

from export import load_pipeline

PROMPTS = [
    "",
    "a red heart",
    "Slice of PIZZA, flat style",
    "  smiling   face\twith\nsunglasses ",
    "crème brûlée à la française, Zürich, naïve Ångström",
    "cafe\u0301 (decomposed accent)",
    "🍕🚀 rocket & pizza ❤️",
    "赤いハート 红色的心 빨간 하트",
    "don't stop, it's the dog's ball; we'll they've I'm you'd",
    "hello!!! what?! ... wow!",
    "R2D2 and 12345 balloons @ 3.14 #7 50% a_b",
    "<|startoftext|>a cat<|endoftext|> a dog",
    "İstanbul ẞtraße ﬁsh ½ Ⅷ",
    "zero\u200bwidth and no\u00a0break",
    " ".join(["a very long caption about a red rocket, a green tree and a yellow star"] * 8),
]
SDXL_BASE = dict(num_train_timesteps=1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                 interpolation_type="linear", use_karras_sigmas=False, steps_offset=1)

# Every combination of these is painted. A step more or less would show nothing new: each algorithm's first, middle and last steps are in.
PARITY_SCHEDULERS = {
    "euler-discrete": (EulerDiscreteScheduler, {}, 8),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}, 8),
    "dpmpp-2m-karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True), 8),
    "ddim": (DDIMScheduler, {}, 8),
    "lcm": (LCMScheduler, {}, 4),
}
PARITY_PROMPTS = [
    dict(prompt="a red heart"),
    dict(prompt="Slice of PIZZA, flat style", negative_prompt=""),
    dict(prompt="smiling face with sunglasses", negative_prompt="a blue heart"),
    dict(prompt=""),
]
PARITY_GUIDANCE_SCALES = (1.0, 5.0)
PARITY_SIZES = ((128, 128), (160, 96))


def floats(values):
    return [float(v) for v in np.asarray(values, dtype=np.float64).ravel()]


def packed(tensor):
    return base64.b64encode(tensor.detach().contiguous().float().numpy().astype("<f4").tobytes()).decode()


def ends(tensor, n=6):
    flat = tensor.detach().float().ravel()
    return dict(shape=list(tensor.shape), first=floats(flat[:n]), last=floats(flat[-n:]), mean=float(flat.double().mean()), abs_mean=float(flat.double().abs().mean()))


def schedule(config, steps):
    scheduler = EulerDiscreteScheduler(**config)
    scheduler.set_timesteps(steps)
    return dict(timesteps=floats(scheduler.timesteps), sigmas=floats(scheduler.sigmas), init_noise_sigma=float(scheduler.init_noise_sigma))


def paint_parity(pipe, own_scheduler, out, name, schedulers, prompts, guidance_scales, sizes):
    """Paints every combination; the latents go to one file of float32, the pictures to one sheet a size. Returns where each of them stands."""
    cases, latents_file = [], bytearray()
    generator = lambda seed: torch.Generator().manual_seed(seed)
    columns = len(prompts)
    for width, height in sizes:
        sheet = Image.new("RGB", (columns * width, len(schedulers) * len(guidance_scales) * height))
        file = f"{name}-{width}x{height}.png"
        place = 0
        for scheduler, (scheduler_class, fixed, steps) in schedulers.items():
            pipe.scheduler = scheduler_class.from_config({**own_scheduler, **fixed})
            for guidance_scale in guidance_scales:
                for prompt in prompts:
                    request = dict(prompt, guidance_scale=guidance_scale, width=width, height=height)
                    seed = 1000 + len(cases)
                    latents = pipe(**request, num_inference_steps=steps, generator=generator(seed), output_type="latent").images
                    with torch.no_grad():
                        decoded = pipe.vae.decode(latents / pipe.vae.config.scaling_factor, return_dict=False)[0]
                    picture = pipe.image_processor.postprocess(decoded, output_type="pil")[0]
                    left, top = place % columns * width, place // columns * height
                    sheet.paste(picture, (left, top))
                    cases.append(dict(request, scheduler=scheduler, steps=steps, seed=seed, sheet=file, left=left, top=top,
                                      offset=len(latents_file), length=latents.numel()))
                    latents_file += latents.contiguous().numpy().astype("<f4").tobytes()
                    place += 1
        sheet.save(out / file, optimize=True)
    (out / f"{name}-latents.f32").write_bytes(latents_file)
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompt", default="a red heart")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    # One, so that sums are always added up in the same order.
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    made_by = dict(
        program="training/goldens.py",
        command="python goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers",
        model=args.model.resolve().name,
        versions=dict(python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__,
                      transformers=transformers.__version__, numpy=np.__version__),
        machine=platform.machine(),
    )

    def write(name, value):
        (args.out / name).write_text(json.dumps(dict(made_by=made_by, **value), ensure_ascii=True, indent=1) + "\n")

    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)

    ids = lambda tokenizer, text: tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
    write("tokens.json", dict(prompts=[
        dict(prompt=p, tokenizer=ids(pipe.tokenizer, p), tokenizer_2=ids(pipe.tokenizer_2, p)) for p in PROMPTS]))

    own = json.loads((args.model / "scheduler/scheduler_config.json").read_text())
    own = {k: v for k, v in own.items() if not k.startswith("_")}
    cases = [dict(config="shipped", steps=n, **schedule(own, n)) for n in (1, 4, 20)]
    for spacing in ("leading", "trailing", "linspace"):
        for prediction in ("epsilon", "v_prediction"):
            for n in (1, 4, 20):
                config = dict(SDXL_BASE, timestep_spacing=spacing, prediction_type=prediction)
                cases.append(dict(config=config, steps=n, **schedule(config, n)))
    # One step of each prediction type on fixed numbers, so that the update rule is pinned as well.
    updates = []
    for prediction in ("epsilon", "v_prediction"):
        scheduler = EulerDiscreteScheduler(**dict(SDXL_BASE, timestep_spacing="leading", prediction_type=prediction))
        scheduler.set_timesteps(4)
        sample = torch.linspace(-3, 3, 16) * scheduler.init_noise_sigma
        for i, t in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(sample, t)
            output = torch.sin(scaled * (i + 1))
            result = scheduler.step(output, t, sample)
            updates.append(dict(prediction=prediction, step=i, sample=floats(sample), scaled=floats(scaled), output=floats(output),
                                next=floats(result.prev_sample), clean=floats(result.pred_original_sample)))
            sample = result.prev_sample
    write("scheduler.json", dict(shipped=own, schedules=cases, updates=updates))

    noise = []
    for seed in (0, 1, 42, 1234567, 4294967295):
        for n in (3, 15, 16, 17, 100, 2048):
            values = torch.randn(n, generator=torch.Generator().manual_seed(seed))
            row = dict(seed=seed, n=n, first=floats(values[:8]), last=floats(values[-8:]))
            if (seed == 42 and n == 2048) or n <= 17:
                row["float32"] = packed(values)
            noise.append(row)
    generator = torch.Generator().manual_seed(7)
    calls = [packed(torch.randn(n, generator=generator)) for n in (2048, 3, 100, 16)]
    write("randn.json", dict(values=noise, successive=dict(seed=7, sizes=[2048, 3, 100, 16], float32=calls)))

    embeddings = []
    for prompt in ("a red heart", "Slice of PIZZA, flat style", ""):
        with torch.no_grad():
            hidden, _, pooled, _ = pipe.encode_prompt(prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        embeddings.append(dict(prompt=prompt, prompt_embeds=ends(hidden), pooled=ends(pooled, 16)))
    write("embeddings.json", dict(embeddings=embeddings))

    defaults = json.loads((args.model / "throughline.json").read_text())
    steps, guidance = defaults["defaultSteps"], defaults["defaultGuidanceScale"]
    width, height = defaults["defaultWidth"], defaults["defaultHeight"]
    shape = (1, pipe.unet.config.in_channels, height // 8, width // 8)
    initial = torch.randn(shape, generator=torch.Generator().manual_seed(args.seed))
    trace = []

    def note(pipe, i, t, tensors):
        trace.append(dict(step=i, timestep=float(t), latents=ends(tensors["latents"])))
        return {}

    common = dict(prompt=args.prompt, num_inference_steps=steps, guidance_scale=guidance, width=width, height=height)
    latents = pipe(**common, generator=torch.Generator().manual_seed(args.seed), output_type="latent", callback_on_step_end=note,
                   callback_on_step_end_tensor_inputs=["latents"]).images
    picture = pipe(**common, generator=torch.Generator().manual_seed(args.seed), output_type="np").images[0]
    pixels = (picture * 255).round().astype(np.uint8)
    file = args.prompt.replace(" ", "-") + ".png"
    Image.fromarray(pixels).save(args.out / file, optimize=True)
    without = pipe(**{**common, "guidance_scale": 1.0, "num_inference_steps": 4}, generator=torch.Generator().manual_seed(args.seed), output_type="latent").images
    negative = pipe(**{**common, "num_inference_steps": 4}, negative_prompt="a blue heart", generator=torch.Generator().manual_seed(args.seed), output_type="latent").images
    write("image.json", dict(
        prompt=args.prompt, seed=args.seed, steps=steps, guidance_scale=guidance, width=width, height=height, file=file,
        initial_noise=dict(shape=list(shape), float32=packed(initial)),
        final_latents=dict(shape=list(latents.shape), float32=packed(latents)), trace=trace,
        no_guidance=dict(steps=4, guidance_scale=1.0, shape=list(without.shape), float32=packed(without)),
        negative_prompt=dict(negative_prompt="a blue heart", steps=4, guidance_scale=guidance, shape=list(negative.shape), float32=packed(negative)),
    ))
    write("parity.json", dict(latents="parity-latents.f32", cases=paint_parity(
        pipe, own, args.out, "parity", PARITY_SCHEDULERS, PARITY_PROMPTS, PARITY_GUIDANCE_SCALES, PARITY_SIZES)))
    print(f"goldens in {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
