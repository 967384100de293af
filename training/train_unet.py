"""Trains the two text encoders and the UNet together, on cached latents.

python train_unet.py --until 14:00            continues from WORK/unet.pt when it is there
python train_unet.py --minutes 90 --init-from ../models/emoji-xl

v-prediction, min-SNR weights (gamma 5), stratified timesteps, three noise levels per caption, an average of the weights (EMA), AdamW with a cosine schedule over the
given time. Several processes can share the work: start each with --workers N --rank 0 .. N-1 (one thread each; this does better than threads on a busy machine). One caption in ten is dropped: mostly to zeros, as SDXL does for an absent negative prompt, sometimes to the empty prompt.
"""

import argparse
import json
import random
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from diffusers import EulerDiscreteScheduler
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTokenizer

from captions import STYLE_SHARE, caption, common_concepts, load_concepts
from common import SCHEDULER_CONFIG, TIME_IDS, VOCABULARY, Clock, add_work_argument, cosine, encode_prompts, make_models, save_atomic, setup


class Sampler:
    """Draws pictures with their captions: the default style more often, recoloured pictures a sixth of the time."""

    def __init__(self, meta, seed, coloured=0.17):
        self.meta = meta
        self.coloured = coloured
        self.rng = random.Random(seed)
        self.groups = {}
        often = common_concepts()
        concepts = {name for name, _, _ in load_concepts()}
        for i, m in enumerate(meta):
            if m["name"] not in concepts:
                continue
            # Five tickets for a common concept's picture, two for another's.
            tickets = 5 if m["name"] in often else 2
            self.groups.setdefault((m["style"], m["colour"] is not None), []).extend([i] * tickets)
        self.queues = {}

    def draw(self):
        style = self.rng.choices(list(STYLE_SHARE), weights=list(STYLE_SHARE.values()))[0]
        key = (style, (style, True) in self.groups and self.rng.random() < self.coloured)
        queue = self.queues.get(key)
        if not queue:
            queue = self.queues[key] = self.rng.sample(self.groups[key], len(self.groups[key]))
        i = queue.pop()
        m = self.meta[i]
        return i, caption(m["phrases"], m["style"], m["colour"], m["tags"], self.rng)


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--until", help="HH:MM, instead of --minutes")
    parser.add_argument("--init-from", type=Path, help="an exported model folder whose weights to begin with")
    parser.add_argument("--captions", type=int, default=24, help="captions in a batch")
    parser.add_argument("--levels", type=int, default=3, help="noise levels per caption")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--word-lr", type=float, default=3.0, help="how much faster the word embeddings learn")
    parser.add_argument("--ema", type=float, default=0.996)
    parser.add_argument("--workers", type=int, default=1, help="processes that share each batch")
    parser.add_argument("--rank", type=int, default=0, help="which of the processes this is")
    args = parser.parse_args()
    setup(args)
    if args.workers > 1:
        address = f"file://{args.work}/workers"
        dist.init_process_group("gloo", init_method=address, rank=args.rank, world_size=args.workers, timeout=timedelta(minutes=10))

    data = torch.load(args.work / "dataset.pt", weights_only=False)
    latents, meta = data["latents"].float(), data["meta"]
    models = make_models()
    if args.init_from:
        from export import load_exported

        for model, folder in zip(models, ("text_encoder", "text_encoder_2", "unet")):
            load_exported(model, args.init_from, folder)
    text_encoder, text_encoder_2, unet = models
    # Plain attention: on the CPU its backward pass is several times faster than the fused one for heads this small.
    unet.set_attn_processor(AttnProcessor())
    for model in (text_encoder, text_encoder_2):
        model.config._attn_implementation = "eager"
    print("parameters (M):", [round(sum(p.numel() for p in m.parameters()) / 1e6, 2) for m in models], flush=True)
    tokenizers = [CLIPTokenizer.from_pretrained(args.work / "tok" / n) for n in ("tokenizer", "tokenizer_2")]
    ids_of = lambda texts: [
        torch.tensor(t(texts, padding="max_length", max_length=77, truncation=True).input_ids) for t in tokenizers
    ]

    params = [p for m in models for p in m.parameters()]
    # A word's embedding is touched only when the word is drawn, so the tables learn faster than the rest.
    words = [m.get_input_embeddings().weight for m in (text_encoder, text_encoder_2)]
    decay = [p for p in params if p.ndim > 1 and all(p is not w for w in words)]
    plain = [p for p in params if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [dict(params=decay, weight_decay=0.01, scale=1), dict(params=plain, weight_decay=0.0, scale=1),
         dict(params=words, weight_decay=0.0, scale=args.word_lr)], lr=args.lr, betas=(0.9, 0.99), fused=True
    )
    ema = [p.detach().clone() for p in params]
    spent, step = 0.0, 0
    path = args.work / "unet.pt"
    if path.exists():
        state = torch.load(path, weights_only=False)
        for model, weights in zip(models, state["models"]):
            model.load_state_dict(weights)
        ema = state["ema"]
        if len(state["optimizer"]["param_groups"]) == len(optimizer.param_groups):
            optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
    clock = Clock(args.minutes, args.until, spent)

    def save():
        save_atomic(
            dict(models=[m.state_dict() for m in models], ema=ema, optimizer=optimizer.state_dict(), spent=clock.elapsed, step=step), path
        )

    alphas = EulerDiscreteScheduler(**SCHEDULER_CONFIG).alphas_cumprod.float()
    snr = alphas / (1 - alphas)
    weights = torch.minimum(snr, torch.tensor(5.0)) / (snr + 1)
    weights = weights / weights.mean()
    offset = args.seed + step + 1_000_003 * args.rank
    sampler = Sampler(meta, offset)
    captions, levels = args.captions // args.workers, args.levels
    batch = captions * levels
    time_ids = torch.tensor(TIME_IDS, dtype=torch.float32).repeat(batch, 1)
    empty = ids_of([""])
    rng = np.random.default_rng(offset)
    torch.manual_seed(offset)
    log = open(args.work / ("unet.jsonl" if args.rank == 0 else f"unet.{args.rank}.jsonl"), "a")
    mean, last_save, last_print = None, time.time(), time.time()
    for m in models:
        m.train()
    progress = clock.progress
    while progress < 1:
        lr = args.lr * cosine(progress, warm=0.02, floor=0.005)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["scale"]
        drawn = [sampler.draw() for _ in range(captions)]
        ids = ids_of([text for _, text in drawn])
        drop = rng.random(captions)
        zero = torch.from_numpy(drop < 0.085)
        for i in np.flatnonzero((drop >= 0.085) & (drop < 0.1)):
            for all_ids, empty_ids in zip(ids, empty):
                all_ids[i] = empty_ids[0]
        # Four steps in five leave out the padding behind 24 tokens, to save time; the last fifth of the training sees all 77 tokens, as the model will.
        if step % 5 and progress < 0.8 and (ids[0][:, 24:] == VOCABULARY - 1).all() and (ids[0][:, 23] == VOCABULARY - 1).all():
            ids = [all_ids[:, :24] for all_ids in ids]
        x = latents[[i for i, _ in drawn]].repeat_interleave(levels, 0)
        noise = torch.randn_like(x)
        # Stratified timesteps: one from each of `batch` equal slices, dealt out at random.
        t = torch.from_numpy(((rng.permutation(batch) + rng.random(batch)) / batch * 1000).astype(np.int64))
        a = alphas[t][:, None, None, None]
        noisy = a.sqrt() * x + (1 - a).sqrt() * noise
        target = a.sqrt() * noise - (1 - a).sqrt() * x
        with torch.autocast("cpu", torch.bfloat16):
            hidden, pooled = encode_prompts(text_encoder, text_encoder_2, *ids)
            hidden = hidden.masked_fill(zero[:, None, None], 0).repeat_interleave(levels, 0)
            pooled = pooled.masked_fill(zero[:, None], 0).repeat_interleave(levels, 0)
            out = unet(noisy, t, hidden, added_cond_kwargs=dict(text_embeds=pooled, time_ids=time_ids)).sample
        error = (out.float() - target).square().mean((1, 2, 3))
        loss = (error * weights[t]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        progress, value = clock.progress, loss.item()
        if args.workers > 1:
            # One message: all gradients, the clock (so that all use one learning rate and stop together) and the loss.
            flat = torch.cat([p.grad.reshape(-1) if p.grad is not None else torch.zeros(p.numel()) for p in params]
                             + [torch.tensor([progress, value])])
            dist.all_reduce(flat)
            flat /= args.workers
            progress, value = flat[-2].item(), flat[-1].item()
            for p, g in zip(params, flat[:-2].split([p.numel() for p in params])):
                p.grad = g.view_as(p)
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        step += 1
        if args.rank > 0:
            continue
        keep = min(args.ema, (1 + step) / (10 + step))
        torch._foreach_lerp_(ema, [p.detach() for p in params], 1 - keep)
        mean = value if mean is None else 0.98 * mean + 0.02 * value
        if step % 25 == 0:
            row = dict(step=step, minutes=round(clock.elapsed / 60, 2), loss=round(mean, 5), lr=round(lr, 6))
            log.write(json.dumps(row) + "\n")
            log.flush()
            if time.time() - last_print > 20:
                print(row, flush=True)
                last_print = time.time()
        if time.time() - last_save > 180:
            save()
            last_save = time.time()
    if args.rank == 0:
        save()


if __name__ == "__main__":
    main()
