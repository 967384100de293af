"""Generates the request that each line of its standard input holds, as JSON, and answers with how long it took.

python bench/python/worker.py --model models/emoji-xl --threads 2

By diffusers' StableDiffusionXLPipeline on PyTorch. Needs what training/requirements.txt names.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))


def torch_worker(model):
    from export import load_pipeline

    pipe = load_pipeline(model)
    pipe.set_progress_bar_config(disable=True)

    def generate(request):
        return pipe(**request, generator=torch.Generator().manual_seed(request.pop("seed"))).images[0]

    return generate, dict(torch=torch.__version__)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    args = parser.parse_args()
    import diffusers

    torch.set_num_threads(args.threads)
    answer = lambda value: print(json.dumps(value), flush=True)
    with torch.no_grad():
        generate, versions = torch_worker(args.model)
        answer(dict(ready=True, versions=dict(diffusers=diffusers.__version__, **versions)))
        for line in sys.stdin:
            request = json.loads(line)
            started = time.perf_counter()
            generate(request)
            answer(dict(ms=(time.perf_counter() - started) * 1000))


if __name__ == "__main__":
    main()
