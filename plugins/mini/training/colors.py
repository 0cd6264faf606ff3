"""The pack's colour expert: a small pixel-space UNet, trained on the same emoji art in its own colours.

Shapes used here: b batch, gray and rgb in [0, 1]. The channel mean of a training picture is a canvas as the other
experts draw them: a picture, or a picture times a spectrogram. Pictures are painted at 64 x 256; the expert works at
32 x 128, an eighth of a canvas, since colours need few pixels where the luminance is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from its_plugins.mini.captions import AUDIO
from its_plugins.mini.training.canvases import VISUAL_SHARES, Canvases, product
from its_plugins.mini.training.experts import EMPTY_SHARE, Plan
from its_plugins.mini.training.pictures import colored_picture, draw
from its_plugins.mini.training.text import CHANNELS

Array = NDArray[np.float32]

SIZE = (64, 256)  # of painted pictures
HALF = (32, 128)  # of what the expert sees

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

PLAN = Plan(shares={("colors", "visual"): 1.0}, width=64, batch=8, peak=2.5e-3)

# The art has no surroundings; where the sound goes on around it, it takes the hue of these: above, below.
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
    "pond": ((0.2, 0.6, 0.8), (0.15, 0.5, 1.0)),
}


def build() -> UNet2DConditionModel:
    """An untrained expert of 1.0 M parameters, 0.9 GFLOP a forward of 32 x 128."""
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


def paint(name: str, canvases: Canvases, *, sounding: bool) -> Array:
    """One training picture (64, 256, 3): sprites in their colours before a backdrop, as bright as a canvas is."""
    gray, rgb, cover = colored_picture(name, canvases.sprites, canvases.rng)
    gray *= np.float32(canvases.rng.uniform(0.85, 1.0))
    if sounding:
        gray = product(gray, canvases.sound(str(canvases.rng.choice(list(AUDIO)))), canvases.rng)
    above, below = (np.array(color, np.float32) for color in BACKDROPS[name])
    share = np.linspace(0, 1, gray.shape[0], dtype=np.float32)[:, None, None] ** 2
    around = (1 - share) * above + share * below
    hue = rgb + (1 - cover[..., None]) * around
    gray, hue = _shrunk(gray[..., None]), _shrunk(hue)
    return in_gamut(gray, hue / hue.mean(-1, keepdims=True).clip(0.05) * gray)


def in_gamut(gray: Array, rgb: Array) -> Array:
    """Pull colours towards their gray until they lie in [0, 1]; the mean stays the gray."""
    chroma = rgb - rgb.mean(-1, keepdims=True)
    high = np.where(chroma > 0, (1 - gray) / np.maximum(chroma, 1e-6), 1.0)
    low = np.where(chroma < 0, gray / np.maximum(-chroma, 1e-6), 1.0)
    return gray + chroma * np.minimum(high, low).min(-1, keepdims=True).clip(0, 1)


def _shrunk(canvas: Array) -> Array:
    rows, columns, channels = canvas.shape
    small = canvas.reshape(SIZE[0], rows // SIZE[0], SIZE[1], columns // SIZE[1], channels)
    return small.mean((1, 3))


class Pictures:
    """A pool of painted pictures with their captions, for `its_plugins.mini.training.experts.train`."""

    def __init__(self, path: Path, *, embeddings: dict[str, list[Tensor]], seed: int) -> None:
        from safetensors.torch import load_file

        store = load_file(path)
        self.rgb, self.names, self.embeddings = store["rgb"], store["names"], embeddings
        self.generator = torch.Generator().manual_seed(seed)

    def refresh(self) -> None:
        """Nothing new comes."""

    def batches(self, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless (pictures (b, 3, 32, width) in [-1, 1], embeddings (b, l, c))."""
        while True:
            rows = [self._row(plan.width) for _ in range(plan.batch)]
            yield torch.stack([picture for picture, _ in rows]), torch.stack([text for _, text in rows])

    def _row(self, width: int) -> tuple[Tensor, Tensor]:
        row = self._draw(len(self.rgb))
        left = 8 * self._draw((HALF[1] - width) // 8 + 1)
        picture = functional.avg_pool2d(self.rgb[row].float(), 2)[..., left : left + width] / 127.5 - 1
        if torch.rand((), generator=self.generator) < EMPTY_SHARE:
            return picture, self.embeddings["empty"][0]
        wordings = self.embeddings["visual"][int(self.names[row])]
        return picture, wordings[self._draw(len(wordings))]

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (), generator=self.generator))


def build_pool(canvases: Canvases, path: Path, *, count: int) -> None:
    """Paint `count` pictures, a third of them without a sound, and keep them in `path` (safetensors, uint8)."""
    from safetensors.torch import save_file

    shares = {name: share**0.5 for name, share in VISUAL_SHARES.items()}  # the rarer classes need colours too
    names = [draw(shares, canvases.rng) for _ in range(count)]
    rgb = [paint(name, canvases, sounding=index % 3 > 0) for index, name in enumerate(names)]
    pixels = torch.from_numpy((np.stack(rgb) * 255).round().astype(np.uint8)).permute(0, 3, 1, 2).contiguous()
    unfinished = path.with_suffix(".part")
    save_file({"rgb": pixels, "names": torch.tensor([list(VISUAL_SHARES).index(name) for name in names])}, unfinished)
    unfinished.rename(path)


def noising() -> DDPMScheduler:
    """The noise schedule that the expert learns and is sampled with."""
    return DDPMScheduler.from_config(SAMPLER)
