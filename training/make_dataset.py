"""Picks the concept set's pictures, adds the recoloured ones and caches everybody's latents: WORK/dataset.pt and WORK/dataset.u8.

python make_dataset.py        needs WORK/vae.pt
"""

import argparse

import numpy as np
import torch
from diffusers import AutoencoderKL
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv

from captions import COLOURS, load_concepts, load_tags
from common import STYLES, VAE_CONFIG, add_work_argument, encode, load_images, setup, to_tensor


def dominant_hue(hsv):
    """The hue (0..1) that most of the saturated pixels have."""
    h, s, v = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    weight = np.where((s > 0.3) & (v > 0.25), s, 0)
    bins = np.bincount((h * 36).astype(int).ravel() % 36, weights=weight.ravel(), minlength=36)
    smooth = bins + 0.6 * (np.roll(bins, 1) + np.roll(bins, -1))
    return (smooth.argmax() + 0.5) / 36


def recolour(pixels, colour):
    """The picture with its main colour moved to the given colour word's hue; other colours stay."""
    hsv = rgb_to_hsv(pixels.astype(np.float32) / 255)
    h, s, v = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    main = dominant_hue(hsv)
    offset = (h - main + 0.5) % 1 - 0.5
    chosen = (np.abs(offset) < 0.14) & (s > 0.12)
    hue, saturation, value = COLOURS[colour]
    # Dark or pale objects are brought to a fair brightness first, so that the colour word can be seen.
    strong = chosen & (s > 0.3)
    mean_v = v[strong].mean() if strong.any() else 1.0
    mean_s = s[strong].mean() if strong.any() else 1.0
    lift = min(max(0.88 / mean_v, 1.0), 1.6)
    richer = min(max(0.75 / mean_s, 1.0), 1.6)
    out = hsv.copy()
    out[..., 0] = np.where(chosen, (hue / 360 + 0.35 * offset) % 1, h)
    out[..., 1] = np.where(chosen, np.clip(s * richer * saturation, 0, 1), s)
    out[..., 2] = np.where(chosen, np.clip(v * lift * value, 0, 1), v)
    return (hsv_to_rgb(out) * 255 + 0.5).astype(np.uint8)


def build(work, mean=None, std=None):
    """Writes the dataset. The latents are normalised by their own mean and deviation, or by the given ones."""
    pixels, items = load_images(work)
    tags = load_tags(work)
    at = {(item["name"], item["style"]): i for i, item in enumerate(items)}
    pictures, meta = [], []
    for name, phrases, recoloured in load_concepts():
        for style in STYLES:
            i = at.get((name, style))
            if i is None:
                continue
            words = set(" ".join(phrases + [name.lower()]).split())
            extra = [t for t in tags.get(items[i]["code"], []) if t not in words]
            base = dict(name=name, phrases=phrases, style=style, tags=extra)
            pictures.append(pixels[i])
            meta.append(dict(base, colour=None))
            if recoloured and style != "mono":
                # A phrase that already says a colour ("red apple") is not used with another one.
                plain = [p for p in phrases if not set(p.split()) & (set(COLOURS) | {"golden", "gold"})]
                for colour in COLOURS:
                    pictures.append(recolour(pixels[i], colour))
                    meta.append(dict(base, phrases=plain, colour=colour, tags=[]))
    pictures = np.stack(pictures)
    vae = AutoencoderKL(**VAE_CONFIG)
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=False)["model"])
    vae.eval()
    latents = []
    with torch.no_grad():
        for i in range(0, len(pictures), 32):
            latents.append(encode(vae, to_tensor(pictures[i : i + 32])))
    latents = torch.cat(latents)
    if mean is None:
        mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    torch.save(
        dict(latents=(latents - mean[:, None, None]) / std[:, None, None], mean=mean, std=std, meta=meta),
        work / "dataset.pt",
    )
    pictures.tofile(work / "dataset.u8")
    print(f"{len(pictures)} pictures, {sum(m['colour'] is None for m in meta)} of them not recoloured")
    print("channel means", mean.tolist(), "deviations", std.tolist())


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    args = parser.parse_args()
    setup(args)
    build(args.work)


if __name__ == "__main__":
    main()
