"""Generates with diffusers' own SDXL pipeline over the graphs of generated folders, and keeps the images.

npx tsx test/golden/engine/write-fixture.ts /tmp/fixture
python test/golden/engine/make-pipeline-golden.py /tmp/fixture      (writes pipeline.json beside this script)

Needs torch, diffusers, transformers, onnxruntime and numpy; tests read only the JSON.
"""

import base64
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import diffusers
import numpy as np
import onnxruntime
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
from diffusers.image_processor import VaeImageProcessor
from transformers import CLIPTokenizer

HERE = Path(__file__).resolve().parent
SCHEDULERS = {
    "euler-discrete": (EulerDiscreteScheduler, {}),
    "euler-ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp-2m": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=False)),
    "dpmpp-2m-karras": (DPMSolverMultistepScheduler, dict(use_karras_sigmas=True)),
    "ddim": (DDIMScheduler, {}),
    "lcm": (LCMScheduler, {}),
}


def run(session, **feeds):
    outputs = session.run(None, {i.name: np.ascontiguousarray(feeds[i.name]) for i in session.get_inputs()})
    return {o.name: torch.from_numpy(v) for o, v in zip(session.get_outputs(), outputs)}


class Graph(torch.nn.Module):
    """A sub-model of the pipeline that runs an ONNX graph."""

    dtype = torch.float32
    device = torch.device("cpu")

    def __init__(self, folder, name):
        super().__init__()
        self.name = name
        self.session = onnxruntime.InferenceSession(folder / name / "model.onnx")
        self.config = SimpleNamespace(**json.loads((folder / name / "config.json").read_text()))


class TextEncoder(Graph):
    def forward(self, ids, output_hidden_states):
        out = run(self.session, input_ids=ids.numpy())
        hidden = [out[f"hidden_states.{i}"] for i in range(self.config.num_hidden_layers + 1)]
        first = out["text_embeds"] if self.name == "text_encoder_2" else out["last_hidden_state"]

        class Output(tuple):
            hidden_states = hidden

        return Output([first])


class Unet(Graph):
    def __init__(self, folder):
        super().__init__(folder, "unet")
        self.add_embedding = SimpleNamespace(linear_1=SimpleNamespace(in_features=self.config.projection_class_embeddings_input_dim))

    def forward(self, sample, t, encoder_hidden_states, added_cond_kwargs, timestep_cond, **_):
        step = np.full(len(sample), float(t)).astype(np.int64)
        feeds = dict(sample=sample.numpy(), timestep=step, encoder_hidden_states=encoder_hidden_states.numpy())
        feeds |= {k: v.numpy() for k, v in added_cond_kwargs.items()}
        if timestep_cond is not None:
            feeds |= dict(timestep_cond=timestep_cond.numpy())
        # One row at a time, as a plain UNet would see them.
        rows = [run(self.session, **{k: v[i : i + 1] for k, v in feeds.items()})["out_sample"] for i in range(len(sample))]
        return (torch.cat(rows),)


class Vae(Graph):
    def __init__(self, folder):
        super().__init__(folder, "vae_decoder")
        self.config.force_upcast = False

    def decode(self, latents, return_dict):
        return (run(self.session, latent_sample=latents.numpy())["sample"],)


class Pipeline(StableDiffusionXLPipeline):
    """The pipeline without the loader's checks of its parts' classes."""

    _execution_device = torch.device("cpu")

    def __init__(self, folder, scheduler):
        self.register_to_config(force_zeros_for_empty_prompt=True)
        parts = dict(
            vae=Vae(folder),
            unet=Unet(folder),
            text_encoder=TextEncoder(folder, "text_encoder"),
            text_encoder_2=TextEncoder(folder, "text_encoder_2"),
            tokenizer=CLIPTokenizer.from_pretrained(folder / "tokenizer"),
            tokenizer_2=CLIPTokenizer.from_pretrained(folder / "tokenizer_2"),
            scheduler=scheduler,
            image_encoder=None,
            feature_extractor=None,
        )
        for name, part in parts.items():
            setattr(self, name, part)
        self.vae_scale_factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        self.default_sample_size = self.unet.config.sample_size
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)
        self.watermark = None

    def maybe_free_model_hooks(self):
        """There are none, and the parts cannot be listed."""


def main():
    diffusers.logging.set_verbosity_error()
    requests = [
        dict(prompt="a red heart!", seed=1, steps=4, guidanceScale=5.0),
        dict(prompt="the cat", negativePrompt="red", seed=2, steps=3, guidanceScale=7.5, width=96, height=64),
        dict(prompt="the cat", negativePrompt="", seed=3, steps=6, guidanceScale=3.0),
        dict(prompt="heart", seed=4294967295, steps=5, guidanceScale=1.0),
        dict(prompt="a red cat", seed=5, steps=5, guidanceScale=4.0, schedulerConfig=dict(timestep_spacing="trailing", prediction_type="v_prediction")),
        dict(prompt="a red cat", seed=6, steps=7, guidanceScale=4.0, schedulerConfig=dict(use_karras_sigmas=True)),
        dict(prompt="a red cat", seed=7, steps=4, guidanceScale=4.0, scheduler="euler-ancestral"),
        dict(prompt="a red cat", seed=8, steps=6, guidanceScale=4.0, scheduler="dpmpp-2m"),
        dict(prompt="a red cat", seed=9, steps=5, guidanceScale=4.0, scheduler="dpmpp-2m-karras", width=96, height=64),
        dict(prompt="a red cat", seed=10, steps=5, guidanceScale=4.0, scheduler="ddim"),
        dict(prompt="a red cat", seed=11, steps=4, guidanceScale=1.0, scheduler="lcm"),
        dict(prompt="a red cat", negativePrompt="heart", seed=12, steps=4, guidanceScale=8.0, scheduler="lcm", guidanceWidth=16),
    ]
    cases = []
    for request in requests:
        folder = Path(sys.argv[1]) / f"guidance-{request.get('guidanceWidth', 0)}"
        base = json.loads((folder / "scheduler/scheduler_config.json").read_text())
        scheduler_class, fixed = SCHEDULERS[request.get("scheduler", "euler-discrete")]
        scheduler = scheduler_class.from_config({**base, **request.get("schedulerConfig", {})}, **fixed)
        pipeline = Pipeline(folder, scheduler)
        pipeline.set_progress_bar_config(disable=True)
        image = pipeline(
            prompt=request["prompt"],
            negative_prompt=request.get("negativePrompt"),
            num_inference_steps=request["steps"],
            guidance_scale=request["guidanceScale"],
            width=request.get("width", 64),
            height=request.get("height", 64),
            generator=torch.Generator("cpu").manual_seed(request["seed"]),
        ).images[0]
        pixels = np.asarray(image)
        cases.append(dict(request=request, width=image.width, height=image.height, pixels=base64.b64encode(pixels.tobytes()).decode()))
    versions = {m.__name__: m.__version__ for m in (torch, diffusers, transformers, onnxruntime, np)}
    made_by = dict(program=", ".join(f"{k} {v}" for k, v in versions.items()), command="python test/golden/engine/make-pipeline-golden.py FOLDER")
    (HERE / "pipeline.json").write_text(json.dumps(dict(madeBy=made_by, cases=cases), indent=1) + "\n")


if __name__ == "__main__":
    main()
