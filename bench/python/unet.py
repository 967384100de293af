"""One process that runs the UNet of a diffusers folder on PyTorch, as bench/full-size/unet-runner.ts does here.

python unet.py --model PATH --dtype float32|bfloat16|float16 --size PIXELS --threads N

Prints a line of JSON when it has loaded, and one for each line that it reads.
"""

import argparse
import json
import resource
import sys
import time


def memory():
    status = open("/proc/self/status").read()
    of = lambda key: round(int(status.split(key + ":")[1].split()[0]) / 1e3)
    return dict(ownMb=of("RssAnon"), mappedMb=of("RssFile"), peakMb=of("VmHWM"))


def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def emit(**value):
    print(json.dumps(value), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    started, used = time.time(), cpu()
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    dtype = getattr(torch, args.dtype)
    unet = UNet2DConditionModel.from_pretrained(args.model, subfolder="unet", variant="fp16", torch_dtype=dtype).eval()
    emit(openMs=round((time.time() - started) * 1e3), openCpuMs=round((cpu() - used) * 1e3), torch=torch.__version__, **memory())
    side = args.size // 8
    tensor = lambda *shape: torch.sin(torch.arange(int(torch.tensor(shape).prod())) * 1.7).reshape(shape).to(dtype)
    c = unet.config
    pooled = c.projection_class_embeddings_input_dim - 6 * c.addition_time_embed_dim
    conditions = dict(text_embeds=tensor(args.batch, pooled), time_ids=tensor(args.batch, 6))
    inputs = tensor(args.batch, c.in_channels, side, side), torch.tensor(501.0), tensor(args.batch, 77, c.cross_attention_dim)
    for _ in sys.stdin:
        started, used = time.time(), cpu()
        out = unet(*inputs, added_cond_kwargs=conditions).sample
        emit(ms=round((time.time() - started) * 1e3), cpuMs=round((cpu() - used) * 1e3), sum=float(out.float().abs().sum()), **memory())


if __name__ == "__main__":
    main()
