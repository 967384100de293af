"""Reference values of the multistep schedulers over random configurations, made by diffusers, and an image of each with the embedded model.

python scheduler_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers
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
from diffusers import DPMSolverMultistepScheduler, UniPCMultistepScheduler

from export import load_pipeline
from goldens import packed, paint_parity

CASES = 40
SEED = 3
SHAPE = (1, 4, 2, 2)
SDXL = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
SDE = dict(algorithm_type="sde-dpmsolver++")
# For each name: the class, and what the name fixes.
SCHEDULERS = {
    "unipc": (UniPCMultistepScheduler, {}),
    "dpmpp-2m-sde": (DPMSolverMultistepScheduler, dict(SDE, use_karras_sigmas=False)),
    "dpmpp-2m-sde-karras": (DPMSolverMultistepScheduler, dict(SDE, use_karras_sigmas=True)),
}


def random_config(name, source):
    """Values of every key that the engine implements. Where diffusers' defaults hold, a key is left out now and then."""
    pick = source.choice
    config = dict(SDXL if source.random() < 0.8 else dict(beta_schedule=pick(["linear", "squaredcos_cap_v2"])))
    config.update(
        solver_order=pick([1, 2, 3]),
        prediction_type=pick(["epsilon", "v_prediction", "sample"]),
        timestep_spacing=pick(["linspace", "leading", "trailing"]),
        final_sigmas_type=pick(["zero", "sigma_min"]),
        lower_order_final=pick([True, False]),
        steps_offset=pick([0, 1]),
    )
    if source.random() < 0.25:
        config["rescale_betas_zero_snr"] = True
    if source.random() < 0.15:
        config["num_train_timesteps"] = pick([100, 500])
    if name == "unipc":
        config.update(solver_type=pick(["bh1", "bh2"]), predict_x0=pick([True, True, False]), use_karras_sigmas=pick([True, False]))
        if source.random() < 0.25:
            config["disable_corrector"] = sorted(source.sample(range(6), 2))
    else:
        config.update(solver_type=pick(["midpoint", "heun"]), euler_at_final=pick([True, False]))
    if (config.get("use_karras_sigmas") or name.endswith("karras")) and source.random() < 0.25:
        config.update(sigma_min=pick([0.05, 0.2]), sigma_max=10.0)
    if name == "dpmpp-2m-sde" and source.random() < 0.2:
        config["lambda_min_clipped"] = -2.5
    return {key: value for key, value in config.items() if key in SDXL or source.random() < 0.95}


def sample(name, config, steps):
    """The whole sampling, "steps" where diffusers makes another number of them, or "not finite" where it has no result."""
    scheduler_class, fixed = SCHEDULERS[name]
    scheduler = scheduler_class.from_config(config, **fixed)
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps:
        return "steps"
    # As the pipeline does; else a timestep that comes twice is taken for the later one.
    scheduler.set_begin_index(0)
    generator = torch.Generator().manual_seed(SEED)
    latents = torch.randn(SHAPE, generator=generator)
    draws = dict(generator=generator) if name != "unipc" else {}
    largest = 0.0
    for t in scheduler.timesteps:
        # Stands in for the model: exact in every library but for the rounding to float32.
        output = latents * 0.125 + (float(t) / 1024 - 0.5)
        try:
            latents = scheduler.step(output, t, latents, **draws).prev_sample
        except torch.linalg.LinAlgError:
            return "not finite"
        largest = max(largest, float(latents.abs().max()))
    if not torch.isfinite(latents).all():
        return "not finite"
    # What the generator gives next shows how much was drawn.
    return dict(timesteps=[int(t) for t in scheduler.timesteps], latents=packed(latents), largest=largest,
                next_draw=packed(torch.randn(16, generator=generator)[:1]))


def cases():
    diffusers.logging.set_verbosity_error()
    found, not_finite = [], []
    for name in SCHEDULERS:
        source = random.Random(f"schedulers {name}")
        count = 0
        while count < CASES:
            config, steps = random_config(name, source), source.randint(1, 50)
            result = sample(name, config, steps)
            if result == "not finite":
                not_finite.append(dict(scheduler=name, config=config, steps=steps))
            elif result != "steps":
                found.append(dict(scheduler=name, config=config, steps=steps, **result))
                count += 1
    return found, not_finite


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # One, so that sums are always added up in the same order.
    torch.set_num_threads(1)
    made_by = dict(
        program="training/scheduler_goldens.py",
        command="python scheduler_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers",
        versions=dict(python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__, numpy=np.__version__),
        machine=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    )

    def write(name, lines):
        body = ",\n".join(f' "{key}": {value}' for key, value in lines.items())
        (args.out / name).write_text(f'{{\n "made_by": {json.dumps(made_by)},\n{body}\n}}\n')

    in_lines = lambda rows: "[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n ]"
    found, not_finite = cases()
    write("random-schedulers.json", dict(seed=SEED, cases=in_lines(found), not_finite=in_lines(not_finite)))
    print(f"{len(found)} cases, and {len(not_finite)} where diffusers has no result", file=sys.stderr)

    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    own = json.loads((args.model / "scheduler/scheduler_config.json").read_text())
    own = {k: v for k, v in own.items() if not k.startswith("_")}
    images = paint_parity(pipe, own, args.out, "multistep", schedulers={name: (*entry, 8) for name, entry in SCHEDULERS.items()},
                          prompts=[dict(prompt="a red heart")], guidance_scales=(5.0,), sizes=((128, 128),))
    write("multistep.json", dict(latents='"multistep-latents.f32"', cases=in_lines(images)))


if __name__ == "__main__":
    main()
