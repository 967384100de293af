"""Trains the autoencoder (factor 8, 8 latent channels).

python train_vae.py --minutes 14                      both halves
python train_vae.py --phase decoder --minutes 40      the decoder alone, on the frozen encoder's latents (after make_dataset.py)

Continues from WORK/vae.pt (or WORK/vae_decoder.pt) when it is there. The loss is L1 plus squared error, the coarse
colour, and L1 on the picture's finite differences at three scales; small noise on the latents makes the decoder forgiving towards a generated latent.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from PIL import Image

from captions import load_concepts
from common import SIZE, VAE_CONFIG, Clock, add_work_argument, cosine, encode, load_images, save_atomic, setup, to_tensor

PERMUTATIONS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def gradient(x):
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def picture_loss(y, x):
    # The squared error and the coarse colour are what gets the colours going: without them the loss sits on a plateau.
    loss = (y - x).abs().mean() + 2 * (y - x).square().mean()
    loss = loss + 2 * (F.avg_pool2d(y, 8) - F.avg_pool2d(x, 8)).abs().mean()
    for scale in range(3):
        weight = (0.7, 0.4, 0.4)[scale]
        for a, b in zip(gradient(y), gradient(x)):
            loss = loss + weight * (a - b).abs().mean()
        if scale < 2:
            y, x = F.avg_pool2d(y, 2), F.avg_pool2d(x, 2)
    return loss


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--phase", choices=["both", "decoder"], default="both")
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--until", help="HH:MM, instead of --minutes")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--noise", type=float, default=0.07, help="standard deviation of the latent noise")
    args = parser.parse_args()
    setup(args)

    pixels, items = load_images(args.work)
    model = AutoencoderKL(**VAE_CONFIG)
    decoder_only = args.phase == "decoder"
    path = args.work / ("vae_decoder.pt" if decoder_only else "vae.pt")
    params = list(model.decoder.parameters()) + list(model.post_quant_conv.parameters())
    if not decoder_only:
        params = list(model.parameters())
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-3)
    spent, step = 0.0, 0
    if decoder_only and not path.exists():
        model.load_state_dict(torch.load(args.work / "vae.pt", weights_only=False)["model"])
    if path.exists():
        state = torch.load(path, weights_only=False)
        model.load_state_dict(state["model"])
        if state["optimizer"]:
            optimizer.load_state_dict(state["optimizer"])
        spent, step = state["spent"], state["step"]
    clock = Clock(args.minutes, args.until, spent)
    model.train()
    # The pictures of the concept set come four times as often as the others.
    chosen = {name for name, _, _ in load_concepts()}
    pool = np.concatenate([np.arange(len(items))] + [np.array([i for i, e in enumerate(items) if e["name"] in chosen])] * 3)
    if decoder_only:
        # The decoder is trained on what the UNet is trained on: the dataset's cached latents.
        data = torch.load(args.work / "dataset.pt", weights_only=False)
        cached = data["latents"] * data["std"][:, None, None] + data["mean"][:, None, None]
        pixels = np.fromfile(args.work / "dataset.u8", dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)
        plain = [i for i, m in enumerate(data["meta"]) if m["colour"] is None]
        pool = np.concatenate([np.arange(len(pixels)), np.array(plain)])

    rng = np.random.default_rng(args.seed + step)
    log = open(args.work / f"vae_{args.phase}.jsonl", "a")
    order = np.array([], dtype=int)
    mean_loss, mean_l1, last_save, last_print = None, None, time.time(), time.time()
    while clock.progress < 1:
        if len(order) < args.batch:
            order = rng.permutation(pool)
        pick, order = order[: args.batch], order[args.batch :]
        x = to_tensor(pixels[np.sort(pick)])
        for i in range(0 if decoder_only else len(x)):
            if rng.random() < 0.1:
                x[i] = x[i][list(PERMUTATIONS[rng.integers(6)])]
        lr = args.lr * cosine(clock.progress)
        for group in optimizer.param_groups:
            group["lr"] = lr
        with torch.autocast("cpu", torch.bfloat16):
            if decoder_only:
                z = cached[np.sort(pick)]
            else:
                z = encode(model, x)
            noisy = z + torch.randn_like(z) * args.noise
            y = model.decoder(model.post_quant_conv(noisy)).float()
        loss = picture_loss(y, x)
        total = loss
        if not decoder_only:
            total = loss + 2e-3 * z[:, 3:].square().mean()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        step += 1
        l1 = (y - x).abs().mean().item()
        mean_loss = loss.item() if mean_loss is None else 0.97 * mean_loss + 0.03 * loss.item()
        mean_l1 = l1 if mean_l1 is None else 0.97 * mean_l1 + 0.03 * l1
        if step % 20 == 0:
            row = dict(step=step, minutes=round(clock.elapsed / 60, 2), loss=round(mean_loss, 5), l1=round(mean_l1, 5),
                       z=round(z[:, 3:].std().item(), 3), lr=round(lr, 6))
            log.write(json.dumps(row) + "\n")
            log.flush()
            if time.time() - last_print > 15:
                print(row, flush=True)
                last_print = time.time()
        if time.time() - last_save > 60 or clock.progress >= 1:
            save_atomic(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), spent=clock.elapsed, step=step), path)
            last_save = time.time()
            show = np.concatenate([((t.detach()[:8].clamp(-1, 1) + 1) * 127.5).byte().permute(0, 2, 3, 1).numpy() for t in (x, y)])
            sheet = show.reshape(2, 8, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(256, 1024, 3)
            Image.fromarray(sheet).save(args.work / f"vae_{args.phase}.png")
    save_atomic(dict(model=model.state_dict(), optimizer=optimizer.state_dict(), spent=clock.elapsed, step=step), path)


if __name__ == "__main__":
    main()
