"""Train the pack's colour expert, a small pixel-space UNet, on the same emoji in colour.

Shapes used here: b batch, gray and rgb in [0, 1]. The channel mean of a training picture is a gray canvas like those of
the other experts: a picture, or the product of a picture and a spectrogram. Pictures are painted at 64 x 256. The
expert's input is 32 x 128, an eighth of a canvas: colour needs little resolution, since the luminance is given.
"""

from __future__ import annotations

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from its_plugins.mini.captions import AUDIO, VISUAL
from its_plugins.mini.training.canvases import floors, product, spectrogram
from its_plugins.mini.training.pictures import Sprite, colored_picture
from its_plugins.mini.training.text import CHANNELS

Array = NDArray[np.float32]

SIZE = (64, 256)  # rows and columns of painted pictures
HALF = (32, 128)  # rows and columns of the expert's input

SAMPLER = {
    "_class_name": "DDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",  # DeepFloyd IF's
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "prediction_type": "epsilon",
    "variance_type": "fixed_small",
    "clip_sample": True,
    "timestep_spacing": "leading",
}

# Hue of the sound around the sprites, which have no background, at the top and at the bottom of the canvas.
BACKDROPS = {
    "castle": ((0.25, 0.5, 1.0), (0.35, 0.8, 0.35)),
    "tiger": ((0.15, 0.7, 0.45), (0.3, 0.75, 0.2)),
    "train": ((0.3, 0.6, 1.0), (0.75, 0.6, 0.4)),
    "kitten": ((0.85, 0.45, 0.9), (0.6, 0.4, 1.0)),
    "dog": ((0.3, 0.65, 1.0), (0.35, 0.85, 0.3)),
    "racing": ((0.3, 0.55, 1.0), (0.6, 0.6, 0.75)),
    "mountain": ((0.3, 0.55, 1.0), (0.3, 0.75, 0.5)),
    "garden": ((0.35, 0.65, 1.0), (0.25, 0.8, 0.3)),
    "forest": ((0.3, 0.65, 0.95), (0.45, 0.7, 0.2)),
    "farm": ((0.35, 0.65, 1.0), (0.6, 0.8, 0.25)),
    "beach": ((0.25, 0.7, 1.0), (1.0, 0.85, 0.5)),
    "horse": ((0.35, 0.6, 1.0), (0.55, 0.75, 0.3)),
    "pond": ((0.2, 0.6, 0.8), (0.15, 0.5, 1.0)),
}


def build() -> UNet2DConditionModel:
    """Build an untrained expert of 1.0 M parameters, 0.9 GFLOP a forward pass at 32 x 128."""
    return UNet2DConditionModel(
        sample_size=HALF,
        in_channels=3,
        out_channels=3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=CHANNELS,
        attention_head_dim=4,  # the number of heads, as in Stable Diffusion 1.5
        norm_num_groups=8,
    ).to(memory_format=torch.channels_last)


def paint(name: str, sprites: dict[str, Sprite], rng: np.random.Generator, count: int = 9) -> NDArray[np.uint8]:
    """Paint training pictures (count, 3, 64, 256) of a class, two thirds of them multiplied with a sound.

    They show coloured sprites on a backdrop, with the luminance of a gray canvas.
    """
    sound = torch.from_numpy(spectrogram(str(rng.choice(list(AUDIO))), rng))
    floor = floors(sound[None])
    painted = []
    for index in range(count):
        gray, rgb, cover = colored_picture(name, sprites, rng)
        gray *= np.float32(rng.uniform(0.85, 1.0))
        if index % 3:
            rolled = sound.roll(int(rng.integers(sound.shape[1])), 1).float() / 255
            gray = product(torch.from_numpy(gray)[None], rolled[None], floor)[0].numpy()
        above, below = (np.array(color, np.float32) for color in BACKDROPS[name])
        share = np.linspace(0, 1, gray.shape[0], dtype=np.float32)[:, None, None] ** 2
        around = (1 - share) * above + share * below
        small, hue = _downsample(gray[..., None]), _downsample(rgb + (1 - cover[..., None]) * around)
        painted.append(clip_to_gamut(small, hue / hue.mean(-1, keepdims=True).clip(0.05) * small))
    return (np.stack(painted) * 255).round().astype(np.uint8).transpose(0, 3, 1, 2)


def clip_to_gamut(gray: Array, rgb: Array) -> Array:
    """Reduce the saturation until colours lie in [0, 1]. The channel mean stays `gray`."""
    chroma = rgb - rgb.mean(-1, keepdims=True)
    high = np.where(chroma > 0, (1 - gray) / np.maximum(chroma, 1e-6), 1.0)
    low = np.where(chroma < 0, gray / np.maximum(-chroma, 1e-6), 1.0)
    return gray + chroma * np.minimum(high, low).min(-1, keepdims=True).clip(0, 1)


def _downsample(canvas: Array) -> Array:
    rows, columns, channels = canvas.shape
    small = canvas.reshape(SIZE[0], rows // SIZE[0], SIZE[1], columns // SIZE[1], channels)
    return small.mean((1, 3))


def training_pictures(painted: dict[str, list[NDArray[np.uint8]]]) -> tuple[Tensor, Tensor]:
    """Downsample painted pictures to (n, 3, 32, 128) in [-1, 1], float16; return them and their class indices (n,)."""
    rows = {name: torch.from_numpy(np.concatenate(sets)) for name, sets in painted.items() if sets}
    rgb = functional.avg_pool2d(torch.cat(list(rows.values())).float(), 2) / 127.5 - 1
    table = list(VISUAL)
    names = torch.cat([torch.full((len(sets),), table.index(name)) for name, sets in rows.items()])
    return rgb.half(), names


def noising() -> DDPMScheduler:
    """Build the noise schedule for training and sampling."""
    return DDPMScheduler.from_config(SAMPLER)
