"""Images of the embedded model with clip_skip and guidance_rescale, made by diffusers.

python conditioning_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers
"""

import argparse
import json
import platform
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import EulerDiscreteScheduler

from export import load_pipeline
from goldens import paint_parity

STEPS = 8
# The encoders have three layers, so that two can be skipped. A prompt without a negative one has zeros in its place; the others show that diffusers encodes the negative
# prompt without a skip.
PROMPTS = [
    dict(prompt="a red heart", clip_skip=1),
    dict(prompt="smiling face with sunglasses", negative_prompt="a blue heart", clip_skip=2),
    dict(prompt="a red heart", guidance_rescale=0.7),
    dict(prompt="Slice of PIZZA, flat style", negative_prompt="", guidance_rescale=1.0),
    dict(prompt="smiling face with sunglasses", negative_prompt="a blue heart", clip_skip=1, guidance_rescale=0.5),
]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    # One, so that sums are always added up in the same order.
    torch.set_num_threads(1)
    made_by = dict(
        program="training/conditioning_goldens.py",
        command="python conditioning_goldens.py --model ../models/emoji-xl --out ../test/golden/diffusers",
        versions=dict(python=platform.python_version(), torch=torch.__version__, diffusers=diffusers.__version__,
                      transformers=transformers.__version__, numpy=np.__version__),
        machine=f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    )
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    own = json.loads((args.model / "scheduler/scheduler_config.json").read_text())
    own = {k: v for k, v in own.items() if not k.startswith("_")}
    cases = paint_parity(pipe, own, args.out, "conditioning", schedulers={"euler-discrete": (EulerDiscreteScheduler, {}, STEPS)},
                         prompts=PROMPTS, guidance_scales=(7.5,), sizes=((128, 128),))
    rows = ",\n".join(f"  {json.dumps(case)}" for case in cases)
    (args.out / "conditioning.json").write_text(f'{{\n "made_by": {json.dumps(made_by)},\n "latents": "conditioning-latents.f32",\n "cases": [\n{rows}\n ]\n}}\n')
    print(f"{len(cases)} images in {args.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
