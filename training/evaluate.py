"""Measures the model: names, colour words and style words. Prints JSON and writes it with --out.

python evaluate.py --model ../models/emoji-xl --out evaluation.json

The feature of a picture: its colours averaged over a 16 x 16 grid (after a light blur), and histograms of edge orientation (8 directions on a 8 x 8 grid, over luminance),
each half brought to unit length after the mean over all training pictures is taken away. Pictures are compared by the cosine.

Names: for 200 names drawn at random the picture is drawn in the default style; right means that the name's own training picture is among the 5 nearest of all
concepts' pictures in that style. The same question is put to the autoencoder's reconstructions and, as a check on the feature, to shuffled pairs.
Colours: 30 pairs of colour word and object; right means that the dominant hue (weighted by saturation) is nearest to the asked word's hue.
Styles: 30 pairs of one object in two styles, from one seed; right means that each of both is nearer to the object's training picture in its own style than to the other's.
"""

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from captions import COLOURS, DEFAULT_STYLE, load_concepts
from common import SIZE, add_work_argument, setup
from make_dataset import dominant_hue
from sample import add_drawing_arguments, contact_sheet, draw, pipeline

STYLE_PHRASE = {"3d": "3d style", "flat": "flat style", "noto": "noto style", "twemoji": "twemoji style", "mono": "mono style"}


def article(phrase):
    return phrase if phrase.endswith("s") else ("an " if phrase[0] in "aeiou" else "a ") + phrase


def raw_features(pixels):
    x = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    colour = F.avg_pool2d(F.avg_pool2d(x, 5, 1, 2, count_include_pad=False), 8).flatten(1)
    y = F.avg_pool2d((x * torch.tensor([0.3, 0.59, 0.11])[None, :, None, None]).sum(1, keepdim=True), 2)
    gx, gy = y[..., 1:-1, 2:] - y[..., 1:-1, :-2], y[..., 2:, 1:-1] - y[..., :-2, 1:-1]
    size = (gx.square() + gy.square()).sqrt()
    angle = torch.atan2(gy, gx) % np.pi / np.pi * 8
    bins = torch.cat([size * (1 - ((angle - k + 4) % 8 - 4).abs()).clamp(min=0) for k in range(8)], 1)
    edges = F.adaptive_avg_pool2d(bins, 8).sqrt().flatten(1)
    return colour, edges


class Feature:
    def __init__(self, pixels):
        self.means = [f.mean(0) for f in raw_features(pixels)]

    def __call__(self, pixels):
        parts = [F.normalize(f - m, dim=1) for f, m in zip(raw_features(pixels), self.means)]
        return F.normalize(torch.cat(parts, 1), dim=1)


def hue_word(picture):
    from matplotlib.colors import rgb_to_hsv

    hsv = rgb_to_hsv(picture.astype(np.float32) / 255)
    hue = dominant_hue(hsv) * 360
    away = lambda w: abs((hue - COLOURS[w][0] + 180) % 360 - 180)
    return min(COLOURS, key=away), hue


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    add_drawing_arguments(parser)
    parser.add_argument("--names", type=int, default=200)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--sheets", type=Path, help="folder for pictures of what was judged")
    args = parser.parse_args()
    setup(args)
    data = torch.load(args.work / "dataset.pt", weights_only=False)
    meta = data["meta"]
    pixels = np.fromfile(args.work / "dataset.u8", dtype=np.uint8).reshape(-1, SIZE, SIZE, 3)
    at = {(m["name"], m["style"], m["colour"]): i for i, m in enumerate(meta)}
    plain = [i for i, m in enumerate(meta) if m["colour"] is None]
    feature = Feature(pixels[plain])
    trained = {name for name, _, _ in load_concepts()}
    default = [i for i in plain if meta[i]["style"] == DEFAULT_STYLE and meta[i]["name"] in trained]
    gallery = feature(pixels[default])
    pipe = pipeline(args)
    rng = random.Random(args.seed)
    guess = lambda pictures: (feature(pictures) @ gallery.T).topk(5, 1).indices
    result = dict(steps=args.steps, guidance_scale=args.guidance, seed=args.seed, concepts=len(default))

    chosen = rng.sample(range(len(default)), min(args.names, len(default)))
    prompts = [article(meta[default[i]]["phrases"][0]) for i in chosen]
    pictures = draw(pipe, prompts, [1000 + i for i in range(len(prompts))], args.steps, args.guidance)
    top = guess(pictures)
    right = torch.tensor([i in row for i, row in zip(chosen, top.tolist())])
    with torch.no_grad():
        z = data["latents"][[default[i] for i in chosen]]
        decode = lambda z: pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
        rebuilt = torch.cat([decode(part) for part in z.split(20)]).clamp(-1, 1)
    rebuilt = ((rebuilt + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    top_rebuilt = guess(rebuilt)
    shuffled = chosen[1:] + chosen[:1]
    share = lambda hits: round(float(np.mean(hits)), 4)
    true = pixels[[default[i] for i in chosen]].astype(np.float32)
    error = np.square(rebuilt.astype(np.float32) - true).mean((1, 2, 3))
    result["names"] = dict(
        count=len(chosen), among_5_nearest=share(right.numpy()),
        nearest=share([i == row[0] for i, row in zip(chosen, top.tolist())]),
        reconstructions_among_5_nearest=share([i in row for i, row in zip(chosen, top_rebuilt.tolist())]),
        shuffled_among_5_nearest=share([i in row for i, row in zip(shuffled, top.tolist())]),
        reconstruction_psnr_db=round(float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3)))), 2),
        missed=[prompts[k] for k in range(len(prompts)) if not right[k]],
    )

    things = [(phrases[0], name) for name, phrases, recoloured in load_concepts() if recoloured and not phrases[0].startswith(("red", "yellow"))]
    pool = [(c, t) for c in COLOURS for t, _ in things] + [(c, "heart") for c in COLOURS] * 3 + [("red", "apple"), ("green", "apple"), ("blue", "star")] * 2
    pairs = [("blue", "heart"), ("green", "apple")] + rng.sample(pool, 28)
    colour_prompts = [article(f"{c} {t}") for c, t in pairs]
    colour_pictures = draw(pipe, colour_prompts, [2000 + i for i in range(30)], args.steps, args.guidance)
    seen = [hue_word(p) for p in colour_pictures]
    result["colours"] = dict(
        count=30, obeyed=share([word == c for (c, _), (word, _) in zip(pairs, seen)]),
        missed=[f"{p}: {word} ({hue:.0f} degrees)" for p, (c, _), (word, hue) in zip(colour_prompts, pairs, seen) if word != c],
    )

    concepts = [(n, p[0]) for n, p, _ in load_concepts() if all((n, s, None) in at for s in STYLE_PHRASE)]
    trials = []
    for name, phrase in rng.sample(concepts, 30):
        trials.append((name, phrase, *rng.sample(list(STYLE_PHRASE), 2)))
    style_prompts = [f"{article(phrase)}, {STYLE_PHRASE[s]}" for _, phrase, a, b in trials for s in (a, b)]
    style_pictures = draw(pipe, style_prompts, [3000 + i // 2 for i in range(60)], args.steps, args.guidance)
    f = feature(style_pictures)
    obeyed = []
    for k, (name, _, a, b) in enumerate(trials):
        own = feature(pixels[[at[name, a, None], at[name, b, None]]])
        near = f[2 * k : 2 * k + 2] @ own.T
        obeyed.append(bool(near[0, 0] > near[0, 1] and near[1, 1] > near[1, 0]))
    result["styles"] = dict(count=30, obeyed=share(obeyed),
                            missed=[f"{t[1]}: {t[2]} / {t[3]}" for t, ok in zip(trials, obeyed) if not ok])
    text = json.dumps(result, indent=2)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")
    if args.sheets:
        args.sheets.mkdir(parents=True, exist_ok=True)
        contact_sheet(pictures, prompts, 20).save(args.sheets / "names.png")
        contact_sheet(rebuilt, prompts, 20).save(args.sheets / "reconstructions.png")
        contact_sheet(colour_pictures, colour_prompts, 10).save(args.sheets / "colours.png")
        contact_sheet(style_pictures, style_prompts, 10).save(args.sheets / "styles.png")


if __name__ == "__main__":
    main()
