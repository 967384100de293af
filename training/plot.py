"""Draws the loss curves from WORK's logs.

python plot.py --out loss-curves.png
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from common import add_work_argument


def minutes_of(rows):
    """Minutes over all runs: each new run's clock begins at 0."""
    minutes, before, last = [], 0, 0
    for row in rows:
        if row["minutes"] < last:
            before += last
        last = row["minutes"]
        minutes.append(before + last)
    return minutes


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4))
    for axis, (file, title) in zip(axes, (("vae_both", "autoencoder"), ("vae_decoder", "decoder alone"), ("unet", "text encoders and UNet"))):
        path = args.work / f"{file}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        axis.plot(minutes_of(rows), [r["loss"] for r in rows], lw=1)
        axis.set(title=title, xlabel="minutes", ylabel="loss (running mean)", yscale="log")
        axis.grid(alpha=0.3, which="both")
    figure.tight_layout()
    figure.savefig(args.out, dpi=90)


if __name__ == "__main__":
    main()
