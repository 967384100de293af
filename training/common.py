"""Paths, data and model shapes shared by the scripts of the recipe."""

import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SIZE = 128
STYLES = ["3d", "flat", "noto", "twemoji", "mono"]

VAE_CONFIG = dict(
    in_channels=3,
    out_channels=3,
    latent_channels=8,
    block_out_channels=(16, 32, 64, 128),
    layers_per_block=1,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    norm_num_groups=8,
    mid_block_add_attention=False,
    sample_size=SIZE,
)

VOCABULARY = 3000
HIDDEN_1, HIDDEN_2, PROJECTION = 128, 256, 256
UNET_CHANNELS = (96, 128, 192)
UNET_CONFIG = dict(
    sample_size=SIZE // 8,
    in_channels=8,
    out_channels=8,
    block_out_channels=UNET_CHANNELS,
    layers_per_block=1,
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    transformer_layers_per_block=1,
    attention_head_dim=tuple(c // 32 for c in UNET_CHANNELS),
    cross_attention_dim=HIDDEN_1 + HIDDEN_2,
    addition_embed_type="text_time",
    addition_time_embed_dim=32,
    projection_class_embeddings_input_dim=6 * 32 + PROJECTION,
    use_linear_projection=True,
    norm_num_groups=16,
)
SCHEDULER_CONFIG = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="v_prediction",
    interpolation_type="linear",
    timestep_spacing="trailing",
    steps_offset=1,
    use_karras_sigmas=False,
)
TIME_IDS = (SIZE, SIZE, 0, 0, SIZE, SIZE)
# The latents that the UNet sees have mean 0 and deviation 1 per channel; the decoder's first convolution undoes that. The scaling factor is then free to choose.
SCALING_FACTOR = 0.25


def text_configs():
    from transformers import CLIPTextConfig

    common = dict(
        vocab_size=VOCABULARY,
        max_position_embeddings=77,
        num_hidden_layers=3,
        layer_norm_eps=1e-5,
        attention_dropout=0.0,
        bos_token_id=VOCABULARY - 2,
        eos_token_id=VOCABULARY - 1,
    )
    one = CLIPTextConfig(hidden_size=HIDDEN_1, intermediate_size=4 * HIDDEN_1, num_attention_heads=4, projection_dim=HIDDEN_1,
                         hidden_act="quick_gelu", pad_token_id=VOCABULARY - 1, **common)
    two = CLIPTextConfig(hidden_size=HIDDEN_2, intermediate_size=4 * HIDDEN_2, num_attention_heads=8, projection_dim=PROJECTION,
                         hidden_act="gelu", pad_token_id=0, **common)
    return one, two


def make_models():
    """(text_encoder, text_encoder_2, unet), freshly initialised."""
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    one, two = text_configs()
    return CLIPTextModel(one), CLIPTextModelWithProjection(two), UNet2DConditionModel(**UNET_CONFIG)


def encode_prompts(text_encoder, text_encoder_2, ids_1, ids_2):
    """Prompt embeddings as StableDiffusionXLPipeline makes them: the last but one hidden states side by side, and the pooled projection."""
    one = text_encoder(ids_1, output_hidden_states=True)
    two = text_encoder_2(ids_2, output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], -1), two.text_embeds


def add_work_argument(parser):
    parser.add_argument(
        "--work",
        type=Path,
        default=Path(os.path.expanduser("~/.cache/throughline-training")),
        help="folder for data and checkpoints (default ~/.cache/throughline-training)",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)


def setup(args):
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    np.random.seed(args.seed)


def load_images(work):
    """The rendered pictures: (uint8 array N x 128 x 128 x 3, list of their descriptions)."""
    meta = json.loads((work / "data/images.json").read_text())
    items = meta["items"]
    pixels = np.fromfile(work / "data/images.u8", dtype=np.uint8).reshape(len(items), SIZE, SIZE, 3)
    keep = [i for i, item in enumerate(items) if item["style"] in STYLES]
    return pixels[keep], [items[i] for i in keep]


def to_tensor(pixels):
    """uint8 N x H x W x 3 -> float N x 3 x H x W in -1..1."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1


def cosine(progress, warm=0.02, floor=0.01):
    if progress < warm:
        return max(progress / warm, 0.02)
    p = min((progress - warm) / (1 - warm), 1.0)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * p))


class Clock:
    """Training time that survives a restart: seconds spent so far, and progress towards the end."""

    def __init__(self, minutes=None, until=None, spent=0.0):
        self.start = time.time()
        self.spent = spent
        if until:
            today = time.strftime("%Y-%m-%d ")
            end = time.mktime(time.strptime(today + until, "%Y-%m-%d %H:%M"))
            self.total = spent + end - self.start
        else:
            self.total = minutes * 60

    @property
    def elapsed(self):
        return self.spent + time.time() - self.start

    @property
    def progress(self):
        return min(self.elapsed / self.total, 1.0)


def save_atomic(obj, path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(obj, str(path) + ".tmp")
    os.replace(str(path) + ".tmp", path)


def coarse_colour(x):
    """Luminance and amplified colour differences of every 8 x 8 cell: the three latent channels that are not learned."""
    y = torch.nn.functional.avg_pool2d(x.float(), 8)
    r, g, b = y[:, 0:1], y[:, 1:2], y[:, 2:3]
    luma = 0.3 * r + 0.59 * g + 0.11 * b
    return torch.cat([luma, 1.2 * (r - luma), 1.2 * (b - luma)], 1)


def encode(vae, x):
    """Latents of a batch of pictures: three fixed channels of coarse colour, the other five from the encoder.

    The fixed channels spare the autoencoder the long plateau in which it knows shapes but no colours.
    """
    learned = vae.quant_conv(vae.encoder(x))[:, : vae.config.latent_channels - 3].float()
    return torch.cat([coarse_colour(x), learned], 1)
