"""Makes the work folder's checkpoints again from an exported model, so that training can go on from it.

python restore.py --model ../models/emoji-xl       then train_unet.py --init-from the same folder can start
"""

import argparse
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

import make_dataset
from common import HERE, SCALING_FACTOR, VAE_CONFIG, add_work_argument
from export import load_exported


def main():
    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--model", type=Path, required=True)
    args = parser.parse_args()
    vae = AutoencoderKL(**VAE_CONFIG)
    load_exported(vae, args.model, "vae", ("decoder.", "post_quant_conv."))
    saved = np.load(HERE / "checkpoints/vae_encoder.npz")
    mean, std = torch.from_numpy(saved["latents.mean"]), torch.from_numpy(saved["latents.std"])
    vae.load_state_dict({k: torch.from_numpy(saved[k].astype(np.float32)) for k in saved.files if not k.startswith("latents.")}, strict=False)
    # The export folded the latents' normalisation into post_quant_conv: take it out again.
    with torch.no_grad():
        conv = vae.post_quant_conv
        conv.weight.copy_(conv.weight / (std * SCALING_FACTOR)[None, :, None, None])
        conv.bias.copy_(conv.bias - conv.weight[:, :, 0, 0] @ mean)
    state = dict(model=vae.state_dict(), optimizer=None, spent=0.0, step=0)
    torch.save(state, args.work / "vae.pt")
    for folder in ("tokenizer", "tokenizer_2"):
        shutil.copytree(args.model / folder, args.work / "tok" / folder, dirs_exist_ok=True)
    make_dataset.build(args.work, mean, std)


if __name__ == "__main__":
    main()
