"""Runs an exported folder in onnxruntime and compares every part, and a whole picture, with the diffusers pipeline; times 20 steps.

python check.py --model ../models/emoji-xl
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from common import SIZE
from export import load_pipeline


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", default="a red heart")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    sessions = {n: ort.InferenceSession(str(args.model / n / "model.onnx"), options, providers=["CPUExecutionProvider"])
                for n in ("text_encoder", "text_encoder_2", "unet", "vae_decoder")}
    for name, session in sessions.items():
        print(name, [(i.name, i.type, i.shape) for i in session.get_inputs()], "->", [(o.name, o.shape) for o in session.get_outputs()])
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    defaults = json.loads((args.model / "throughline.json").read_text())
    steps, guidance = defaults["defaultSteps"], defaults["defaultGuidanceScale"]

    ids = [np.array(t([args.prompt], padding="max_length", max_length=77, truncation=True).input_ids, dtype=np.int64)
           for t in (pipe.tokenizer, pipe.tokenizer_2)]
    with torch.no_grad():
        want_hidden, _, want_pooled, _ = pipe.encode_prompt(args.prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    layer = lambda s: "hidden_states.%d" % (sum(o.name.startswith("hidden_states.") for o in s.get_outputs()) - 2)
    one, two = sessions["text_encoder"], sessions["text_encoder_2"]
    hidden = np.concatenate([one.run([layer(one)], {"input_ids": ids[0]})[0], two.run([layer(two)], {"input_ids": ids[1]})[0]], -1)
    pooled = two.run(["text_embeds"], {"input_ids": ids[1]})[0]
    print("prompt embeddings: largest difference", float(np.abs(hidden - want_hidden.numpy()).max()), "pooled", float(np.abs(pooled - want_pooled.numpy()).max()))

    latents = torch.randn(1, pipe.unet.config.in_channels, SIZE // 8, SIZE // 8, generator=torch.Generator().manual_seed(42))
    scheduler = pipe.scheduler
    scheduler.set_timesteps(steps)
    latents = latents * scheduler.init_noise_sigma
    time_ids = np.array([[SIZE, SIZE, 0, 0, SIZE, SIZE]], dtype=np.float32)
    start = time.time()
    for t in scheduler.timesteps:
        sample = scheduler.scale_model_input(latents, t).numpy()
        outs = [
            sessions["unet"].run(None, dict(sample=sample, timestep=np.array([float(t)], dtype=np.float32), encoder_hidden_states=h, text_embeds=p, time_ids=time_ids))[0]
            for h, p in ((np.zeros_like(hidden), np.zeros_like(pooled)), (hidden, pooled))
        ]
        guided = torch.from_numpy(outs[0] + guidance * (outs[1] - outs[0]))
        latents = scheduler.step(guided, t, latents).prev_sample
    picture = sessions["vae_decoder"].run(None, {"latent_sample": (latents / pipe.vae.config.scaling_factor).numpy()})[0]
    spent = time.time() - start
    picture = np.clip(picture[0].transpose(1, 2, 0) / 2 + 0.5, 0, 1)
    call = dict(num_inference_steps=steps, guidance_scale=guidance, width=SIZE, height=SIZE)
    want_latents = pipe(args.prompt, **call, generator=torch.Generator().manual_seed(42), output_type="latent").images
    want = pipe(args.prompt, **call, generator=torch.Generator().manual_seed(42), output_type="np").images[0]
    print("final latents: largest difference", float((latents - want_latents).abs().max()))
    print("picture: largest difference in 0..255", float(np.abs(picture - want).max() * 255))
    print(f"{steps} steps with guidance {guidance}, decoder included: {spent:.2f} s on {args.threads} threads")
    # Another size, batch and sequence length, to see that the axes are free.
    shape = sessions["unet"].run(None, dict(sample=np.zeros((3, 8, 24, 16), np.float32), timestep=np.array([500], np.float32),
                                            encoder_hidden_states=np.zeros((3, 154, hidden.shape[-1]), np.float32),
                                            text_embeds=np.zeros((3, pooled.shape[-1]), np.float32), time_ids=np.repeat(time_ids, 3, 0)))[0].shape
    rows = sessions["unet"].run(None, dict(sample=np.ones((2, 8, 16, 16), np.float32), timestep=np.array([900, 100], np.float32),
                                           encoder_hidden_states=np.repeat(hidden, 2, 0), text_embeds=np.repeat(pooled, 2, 0), time_ids=np.repeat(time_ids, 2, 0)))[0]
    single = sessions["unet"].run(None, dict(sample=np.ones((1, 8, 16, 16), np.float32), timestep=np.array([100], np.float32),
                                             encoder_hidden_states=hidden, text_embeds=pooled, time_ids=time_ids))[0]
    print("free axes:", shape, sessions["vae_decoder"].run(None, {"latent_sample": np.zeros((2, 8, 24, 16), np.float32)})[0].shape,
          two.run(["text_embeds"], {"input_ids": np.repeat(ids[1], 3, 0)})[0].shape, "timestep per row: difference", float(np.abs(rows[1] - single[0]).max()))


if __name__ == "__main__":
    main()
