"""Makes the golden values of test/engine with PyTorch, diffusers and transformers themselves.

python test/golden/engine/make-goldens.py        (writes the JSON files beside this script)

Needs torch, diffusers, transformers and numpy; tests read only the JSON. Every file names the versions that made it.
"""

import base64
import contextlib
import inspect
import io
import json
import platform
import random
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    LCMScheduler,
    StableDiffusionXLPipeline,
)
from transformers import CLIPTokenizer

HERE = Path(__file__).resolve().parent
MADE_BY = {
    "program": f"torch {torch.__version__}, diffusers {diffusers.__version__}, transformers {transformers.__version__}, "
    f"numpy {np.__version__}, Python {platform.python_version()}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
    "command": "python test/golden/engine/make-goldens.py",
}


def write(name, body):
    (HERE / name).write_text(json.dumps({"madeBy": MADE_BY, **body}, indent=1) + "\n")


def bits(tensor):
    """Little-endian float32, in base64: exact."""
    return base64.b64encode(np.ascontiguousarray(np.asarray(tensor, dtype="<f4")).tobytes()).decode()


def noise():
    cases = []
    for seed, shapes in [
        (0, [[6]]),
        (0, [[16]]),
        (42, [[16]]),
        (7, [[15], [3], [1]]),
        (1, [[17], [16], [40]]),
        (123, [[1, 4, 8, 8], [1, 4, 8, 8]]),
        (4294967295, [[1, 8, 16, 16]]),
        (2026, [[5], [32], [5]]),
    ]:
        generator = torch.Generator("cpu").manual_seed(seed)
        draws = [dict(shape=shape, values=bits(torch.randn(shape, generator=generator))) for shape in shapes]
        cases.append(dict(seed=seed, draws=draws))
    write("randn.json", dict(cases=cases))


SDXL = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)


def schedules():
    configs = {
        "leading": SDXL,
        "trailing": dict(SDXL, timestep_spacing="trailing"),
        "linspace": dict(SDXL, timestep_spacing="linspace", steps_offset=0),
        "karras": dict(SDXL, use_karras_sigmas=True),
        "v-prediction": dict(SDXL, prediction_type="v_prediction", timestep_spacing="trailing"),
        "zero-snr": dict(SDXL, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction"),
        "sample": dict(SDXL, prediction_type="sample", timestep_spacing="trailing"),
        "sigma-min": dict(SDXL, final_sigmas_type="sigma_min"),
        "linear": {},
        "squared-cosine": dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100),
    }
    cases = []
    for name, config in configs.items():
        for steps in (1, 4, 12, 30):
            if name == "karras" and steps == 1:
                continue
            scheduler = EulerDiscreteScheduler(**config)
            scheduler.set_timesteps(steps)
            case = dict(name=name, config=config, steps=steps, timesteps=bits(scheduler.timesteps), sigmas=bits(scheduler.sigmas),
                        initNoiseSigma=bits([float(scheduler.init_noise_sigma)]))
            if steps == 4:
                # One whole loop; a line stands in for the model, because it is exact in every library.
                generator = torch.Generator("cpu").manual_seed(3)
                latents = torch.randn((1, 4, 2, 2), generator=generator) * scheduler.init_noise_sigma
                states = []
                for t in scheduler.timesteps:
                    model_input = scheduler.scale_model_input(latents, t)
                    output = model_input * 0.5 + 0.25
                    out = scheduler.step(output, t, latents)
                    latents = out.prev_sample
                    states.append(dict(modelInput=bits(model_input), clean=bits(out.pred_original_sample), latents=bits(latents)))
                case["loop"] = dict(seed=3, shape=[1, 4, 2, 2], states=states)
            cases.append(case)
    write("euler-discrete.json", dict(cases=cases))


# scheduler_config.json of SDXL base 1.0, as its folder has it.
FOLDER = dict(SDXL, _class_name="EulerDiscreteScheduler", clip_sample=False, interpolation_type="linear", num_train_timesteps=1000,
              prediction_type="epsilon", sample_max_value=1.0, set_alpha_to_one=False, skip_prk_steps=True, trained_betas=None,
              use_karras_sigmas=False)

ZERO_SNR = dict(rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")

# For each name: the class, what the name fixes, the prediction types, and configurations besides spacings and prediction types.
# A configuration replaces keys of the folder's; the one under "bare" stands alone, so that the class's own defaults hold.
SAMPLERS = {
    "euler-discrete": (EulerDiscreteScheduler, {}, ["epsilon", "v_prediction", "sample"], []),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}, ["epsilon", "v_prediction"], [ZERO_SNR]),
    "dpmpp-2m": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=False), ["epsilon", "v_prediction", "sample"], [
        dict(solver_type="heun"),
        dict(euler_at_final=True, final_sigmas_type="sigma_min"),
        dict(lower_order_final=False, final_sigmas_type="sigma_min"),
        dict(lambda_min_clipped=-5.1, beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace"),
        ZERO_SNR,
    ]),
    "dpmpp-2m-karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True), ["epsilon", "v_prediction", "sample"], [
        dict(solver_type="heun"),
        dict(sigma_min=0.1, sigma_max=10.0),
        dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=500),
    ]),
    "ddim": (DDIMScheduler, {}, ["epsilon", "v_prediction", "sample"], [
        dict(clip_sample=True),
        dict(clip_sample=True, clip_sample_range=2.5, prediction_type="v_prediction"),
        dict(set_alpha_to_one=True),
        dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=500, prediction_type="sample"),
        ZERO_SNR,
    ]),
    "lcm": (LCMScheduler, {}, ["epsilon", "v_prediction", "sample"], [
        dict(original_inference_steps=100),
        dict(clip_sample=True, timestep_scaling=0.01),
        ZERO_SNR,
    ]),
}


def samplings():
    # Classes that know not every key of the folder's configuration say so.
    diffusers.logging.set_verbosity_error()
    cases = []
    for name, (scheduler_class, fixed, predictions, others) in SAMPLERS.items():
        spacings = ["leading", "trailing", "linspace"] if name != "lcm" else ["leading"]
        configs = [(dict(FOLDER, timestep_spacing=s, prediction_type=p), (1, 2, 4, 20)) for s in spacings for p in predictions]
        configs += [(dict(FOLDER, **other), (2, 4, 20)) for other in others] + [({}, (4,))]
        for config, all_steps in configs:
            for steps in all_steps:
                if steps == 1 and config.get("use_karras_sigmas"):
                    continue
                scheduler = scheduler_class.from_config(config, **fixed)
                scheduler.set_timesteps(steps)
                if hasattr(scheduler, "set_begin_index"):
                    # As the pipeline does; else a timestep that comes twice is taken for the later one.
                    scheduler.set_begin_index(0)
                generator = torch.Generator("cpu").manual_seed(3)
                latents = torch.randn((1, 4, 2, 2), generator=generator) * scheduler.init_noise_sigma
                draws = "generator" in inspect.signature(scheduler.step).parameters and name in ("euler-ancestral", "lcm")
                clean = []
                for t in scheduler.timesteps:
                    model_input = scheduler.scale_model_input(latents, t)
                    # Stands in for the model: exact in every library but for the rounding to float32.
                    output = model_input * 0.125 + (float(t) / 1024 - 0.5)
                    out = scheduler.step(output, t, latents, **(dict(generator=generator) if draws else {}))
                    latents = out.prev_sample
                    clean.append(out.get("denoised", out.get("pred_original_sample")))
                cases.append(dict(
                    scheduler=name,
                    config={k: v for k, v in config.items() if k not in FOLDER or FOLDER[k] != v} if config else None,
                    steps=steps,
                    timesteps=bits(scheduler.timesteps),
                    initNoiseSigma=float(scheduler.init_noise_sigma),
                    latents=bits(latents),
                    # Not every class says what it takes for clean.
                    **(dict(firstClean=bits(clean[0])) if steps == 4 and clean[0] is not None else {}),
                    # What the generator gives next shows how much was drawn.
                    nextDraw=bits(torch.randn(16, generator=generator)[:1]),
                ))
    write("schedulers.json", dict(folder=FOLDER, seed=3, shape=[1, 4, 2, 2], cases=cases))


def guidance_embeddings():
    cases = []
    for scale in (1.0, 1.5, 5.0, 7.5, 8.0):
        for width in (16, 256, 15):
            scale_minus_one = torch.tensor(scale - 1).repeat(1)
            values = StableDiffusionXLPipeline.get_guidance_scale_embedding(None, scale_minus_one, embedding_dim=width)
            cases.append(dict(scale=scale, width=width, values=bits(values[0])))
    write("guidance-embedding.json", dict(cases=cases))


TEXTS = [
    "",
    "a red heart",
    "  A  RED\t heart\n",
    "hello, world!",
    "it's the cat's; we'll see they've i'd i'm 're",
    "1234 3.14 x2",
    "cafe\u0301 caf\u00e9 na\u00efve",
    "\u96fb\u8eca\u3068\u732b",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467 smile",
    "\u0130stanbul STRASSE \u00df \ufb01re",
    "a\u200bb",
    "a\u00a0b\u2003c",
    "<|endoftext|>",
    "red <|startoftext|> heart <|endoftext|> cat",
    "<|ENDOFTEXT|> <|startoftext|",
    "!!! wow!! !",
    "red!heart",
    "don't  'S 'Re",
    "under_score-dash/slash\\back \"quotes\" #hash @at",
    "\u0661\u0662\u0663 \u2460 \u00bd \u2163",
    "\U0001d4d0 \u1d2c",
    "\u039f\u0394\u039f\u03a3 \u03a3",
    "\ufeffred\u0085heart\u180ecat\u001fred",
    "\u0000nul \u0007bell",
    "heart " * 90,
    "red" * 120,
    "word " * 75,
    "x " * 76,
]


def tokens():
    """Over a vocabulary of the fixtures, which test/fixtures/clip-vocabulary.ts makes too."""
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    pairs = ["r e", "re d</w>", "h e", "a r", "he ar", "hear t</w>", "t h", "th e</w>", "i n", "in g</w>", "o n", "c a", "ca t</w>"]
    names = symbols + [s + "</w>" for s in symbols] + [p.replace(" ", "") for p in pairs] + ["<|startoftext|>", "<|endoftext|>"]
    cases = []
    for pad in ("<|endoftext|>", "!"):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            vocab = {name: i for i, name in enumerate(names)}
            tokenizer = CLIPTokenizer(
                vocab=vocab,
                merges=[tuple(p.split(" ")) for p in pairs],
                pad_token=pad,
                model_max_length=77,
            )
        for text in TEXTS:
            padded = tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
            whole = tokenizer(text).input_ids
            cases.append(dict(pad=pad, text=text, ids=(padded if len(whole) > 40 else padded[: len(whole) + 1]), untruncatedLength=len(whole)))
    write("clip-tokens.json", dict(cases=cases))


def odd_tokens():
    """Odd strings through the tokenizers of models/emoji-xl: characters that normalise, special tokens in any case, strange spaces."""
    parts = ["a", "Red", "heart", " ", "  ", "\t", "'S", "n't", "1", "42", "<|endoftext|>", "<|ENDOFTEXT|>", "<|StartOfText|>", "<|EndOfText|", "|>",
             "!", "!!", "\u00a0", "\u0085", "\ufeff", "\u200d", "\u3000", "e\u0301", "\u00e9", "\u0130", "\u212a", "\ufb01", "\u00df", "\u1e9e", "\u03a3",
             "\u03c2", "\u4eba", "\u1100\u1161", "\U0001f468\u200d\U0001f469", "\u2764\ufe0f", "\u0338", ">", "\u00bd", "\u2162", "\u0e01\u0e33", "-", "_", "...", "\u2019s"]
    source = random.Random(7)
    texts = parts + ["".join(source.choices(parts, k=source.randint(2, 7))) for _ in range(508 - len(parts))]
    folder = Path(__file__).parents[3] / "models" / "emoji-xl"
    tokenizers = [CLIPTokenizer.from_pretrained(folder / name) for name in ("tokenizer", "tokenizer_2")]
    write("clip-odd-tokens.json", dict(cases=[dict(text=text, ids=[" ".join(map(str, tokenizer(text).input_ids)) for tokenizer in tokenizers]) for text in texts]))


if __name__ == "__main__":
    noise()
    schedules()
    samplings()
    guidance_embeddings()
    tokens()
    odd_tokens()
