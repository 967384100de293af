"""Distils the encoder that the folder ships: all eight normalised latents from the encoder alone, as `AutoencoderKL.encode` gives them.

python train_encoder.py --model ../models/emoji-xl --minutes 35        writes WORK/vae_encoder.pt; export.py takes it

The recipe's own latents (common.py's `encode`) are three channels of averaged colour beside five of the first encoder. The student regresses those eight, divided by the
scaling factor, so that `vae.encode(x).latent_dist.mean * vae.config.scaling_factor` is what the UNet was trained on. It begins from the first encoder. The averaged colour is
led through it exactly, on channels of its own (`carve`); the other five latents are trained around that, and their readout is fitted by least squares at the start. The variance
is constant and next to nothing.
"""

import argparse
import json
import time

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from captions import load_concepts
from common import HERE, SCALING_FACTOR, VAE_CONFIG, Clock, add_work_argument, cosine, encode, load_images, save_atomic, setup, to_tensor
from train_vae import PERMUTATIONS

LOG_VARIANCE = -20.0


def load_teacher():
    """The first encoder, and the mean and deviation of each of the eight latents."""
    saved = np.load(HERE / "checkpoints/vae_encoder.npz")
    vae = AutoencoderKL(**VAE_CONFIG).eval().requires_grad_(False)
    vae.load_state_dict({k: torch.from_numpy(saved[k].astype(np.float32)) for k in saved.files if not k.startswith("latents.")}, strict=False)
    return vae, torch.from_numpy(saved["latents.mean"]), torch.from_numpy(saved["latents.std"])


def targets(teacher, mean, std, x):
    with torch.no_grad():
        return (encode(teacher, x) - mean[:, None, None]) / std[:, None, None] / SCALING_FACTOR


# A group of the last norm holds the three colours, each with its negative, and constants that make the norm's divisor nearly the same for every picture.
CONSTANT = 30.0
GROUP = 16


def carve(encoder, mean, std):
    """Leads the mean colour of each 8 x 8 cell through the encoder: resnets pass it on, strided convolutions average it, and silu(c) - silu(-c) = c at the end."""
    with torch.no_grad():
        conv_in = encoder.conv_in
        at = conv_in.out_channels - 3
        conv_in.weight[at:], conv_in.bias[at:] = 0, 0
        for i in range(3):
            conv_in.weight[at + i, i, 1, 1] = 1
        for block in encoder.down_blocks[:3]:
            resnet = block.resnets[0]
            before, at = at, resnet.out_channels - 3
            resnet.conv2.weight[at:], resnet.conv2.bias[at:] = 0, 0
            if resnet.conv_shortcut is not None:
                resnet.conv_shortcut.weight[at:], resnet.conv_shortcut.bias[at:] = 0, 0
                for i in range(3):
                    resnet.conv_shortcut.weight[at + i, before + i, 0, 0] = 1
            down = block.downsamplers[0].conv
            down.weight[at:], down.bias[at:] = 0, 0
            for i in range(3):
                # Its padding is below and to the right: these four are the cell's own.
                down.weight[at + i, at + i, :2, :2] = 0.25
        last = encoder.down_blocks[3].resnets[0]
        before, at = at, last.out_channels - GROUP
        last.conv_shortcut.weight[at:], last.conv_shortcut.bias[at:] = 0, 0
        for i in range(3):
            last.conv_shortcut.weight[at + 2 * i, before + i, 0, 0] = 1
            last.conv_shortcut.weight[at + 2 * i + 1, before + i, 0, 0] = -1
        for i in range(6, GROUP):
            last.conv_shortcut.bias[at + i] = CONSTANT if i % 2 == 0 else -CONSTANT
        for resnet in (last, *encoder.mid_block.resnets):
            resnet.conv2.weight[at:], resnet.conv2.bias[at:] = 0, 0
        encoder.conv_norm_out.weight[at:] = CONSTANT * ((GROUP - 6) / GROUP) ** 0.5
        encoder.conv_norm_out.bias[at:] = 0
        luma = torch.tensor([0.3, 0.59, 0.11])
        red, blue = torch.tensor([1.0, 0, 0]), torch.tensor([0, 0, 1.0])
        out = encoder.conv_out
        out.weight[:3] = 0
        for channel, mix in enumerate((luma, 1.2 * (red - luma), 1.2 * (blue - luma))):
            for i in range(3):
                out.weight[channel, at + 2 * i, 1, 1] = mix[i] / std[channel]
                out.weight[channel, at + 2 * i + 1, 1, 1] = -mix[i] / std[channel]
            out.bias[channel] = -mean[channel] / std[channel]


def features(student, x):
    """What the encoder's last convolution takes."""
    seen = {}
    handle = student.encoder.conv_out.register_forward_pre_hook(lambda module, inputs: seen.update(x=inputs[0]))
    student.encoder(x)
    handle.remove()
    return seen["x"]


def fit_readout(student, teacher, mean, std, pixels, ridge=1e-3):
    """Sets the readout of the five latents to the least-squares fit from what the last convolution takes: no gradient finds a better one."""
    channels = len(mean)
    size = student.encoder.conv_out.weight[0].numel() + 1
    gram, moment = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, channels, dtype=torch.float64)
    rows = 0
    with torch.no_grad():
        for i in range(0, len(pixels), 32):
            x = to_tensor(pixels[i : i + 32])
            patches = F.unfold(features(student, x), 3, padding=1).permute(0, 2, 1).reshape(-1, size - 1)
            patches = torch.cat([patches, torch.ones(len(patches), 1)], 1)
            want = (targets(teacher, mean, std, x) * SCALING_FACTOR).permute(0, 2, 3, 1).reshape(-1, channels)
            gram += (patches.T @ patches).double()
            moment += (patches.T @ want).double()
            rows += len(patches)
        gram += ridge * torch.eye(size, dtype=torch.float64) * gram.diagonal().mean()
        fit = torch.linalg.solve(gram, moment).float()
        out = student.encoder.conv_out
        out.weight[3:channels] = fit[:-1, 3:].T.reshape(channels - 3, *out.weight.shape[1:])
        out.bias[3:channels] = fit[-1, 3:]


def make_student(teacher, mean, std):
    """The first encoder, its last two convolutions arranged for eight means and a constant variance."""
    student = AutoencoderKL(**VAE_CONFIG)
    student.encoder.load_state_dict(teacher.encoder.state_dict())
    out, quant, channels = student.encoder.conv_out, student.quant_conv, len(mean)
    with torch.no_grad():
        for parameter in (quant.weight, quant.bias, out.weight[channels:], out.bias[channels:]):
            parameter.zero_()
        for i in range(channels):
            quant.weight[i, i] = 1 / SCALING_FACTOR
        quant.bias[channels:] = LOG_VARIANCE
    carve(student.encoder, mean, std)
    return student


def psnr(y, x):
    error = (((y.clamp(-1, 1) - x) / 2) ** 2).mean((1, 2, 3))
    return float((-10 * torch.log10(error)).mean())


def report(student, teacher, decoder, mean, std, pixels):
    """PSNR of reconstructions from the student's latents, and from the recipe's own."""
    ours, theirs, errors = [], [], []
    with torch.no_grad():
        for i in range(0, len(pixels), 32):
            x = to_tensor(pixels[i : i + 32])
            want = targets(teacher, mean, std, x)
            got = student.quant_conv(student.encoder(x))[:, : len(mean)]
            ours.append(psnr(decoder.decode(got).sample, x))
            theirs.append(psnr(decoder.decode(want).sample, x))
            errors.append(float(((got - want) * SCALING_FACTOR).square().mean().sqrt()))
    return dict(student_db=round(float(np.mean(ours)), 2), recipe_db=round(float(np.mean(theirs)), 2), latent_rms_error=round(float(np.mean(errors)), 4))


def main():
    from export import load_pipeline

    parser = argparse.ArgumentParser()
    add_work_argument(parser)
    parser.add_argument("--model", required=True)
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--fit", type=int, default=1000, help="pictures of the least-squares fit")
    args = parser.parse_args()
    setup(args)
    teacher, mean, std = load_teacher()
    decoder = load_pipeline(args.model).vae.requires_grad_(False)
    student = make_student(teacher, mean, std)
    # The last convolution before the variance has nothing to learn: its scale is fixed.
    params = list(student.encoder.parameters())
    optimizer = torch.optim.AdamW(params, lr=args.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    rng = np.random.default_rng(args.seed)
    pixels, items = load_images(args.work)
    chosen = {name for name, _, _ in load_concepts()}
    known = np.array([item["name"] in chosen for item in items])
    chances = np.where(known, 4.0, 1.0)
    chances /= chances.sum()
    concept_pictures = pixels[known]
    fit_readout(student, teacher, mean, std, pixels[rng.permutation(len(pixels))[: args.fit]])
    print("fitted", report(student, teacher, decoder, mean, std, concept_pictures[::8]), flush=True)
    path, log = args.work / "vae_encoder.pt", (args.work / "train_encoder.jsonl").open("a")
    clock, step, mean_loss, last_print = Clock(args.minutes), 0, None, 0.0
    while clock.progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = args.lr * cosine(clock.progress)
        batch = pixels[rng.choice(len(pixels), args.batch, p=chances)]
        if rng.random() < 0.3:
            batch = batch[..., PERMUTATIONS[rng.integers(6)]]
        x = to_tensor(batch)
        want = targets(teacher, mean, std, x)
        got = student.quant_conv(student.encoder(x))[:, : len(mean)]
        difference = (got - want) * SCALING_FACTOR
        loss = difference.square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        optimizer.step()
        carve(student.encoder, mean, std)
        step += 1
        mean_loss = loss.item() if mean_loss is None else 0.98 * mean_loss + 0.02 * loss.item()
        if time.time() - last_print > 20:
            row = dict(step=step, minutes=round(clock.elapsed / 60, 2), loss=round(mean_loss, 5))
            log.write(json.dumps(row) + "\n")
            log.flush()
            print(row, flush=True)
            last_print = time.time()
            save_atomic(dict(model=student.state_dict()), path)
    save_atomic(dict(model=student.state_dict()), path)
    print(report(student, teacher, decoder, mean, std, concept_pictures), flush=True)


if __name__ == "__main__":
    main()
