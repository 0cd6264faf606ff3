"""Read pictures of any mode as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from its.media.decode import naming, open_picture

if TYPE_CHECKING:
    from PIL import Image


def read_picture(path: Path, *, background: int) -> Tensor:
    """Read a picture of one of the formats `its.media.decode.PICTURES` as (1, 3, h, w) in [0, 1].

    The EXIF orientation is applied. Of an animation, the first frame is read.

    Args:
        path: path of the file.
        background: value of transparent pixels: 0 for black, 1 for white.

    Raises:
        UserError: the picture can't be read or is too large.
    """
    with naming(path):
        return to_tensor(open_picture(path), background)


def to_tensor(picture: Image.Image, background: int) -> Tensor:
    """Convert a picture of any mode to (1, 3, h, w) in [0, 1]. docs/formats.md has a table of modes.

    Gray values of more than 8 bits are divided by 65535; floating-point gray is kept. If a value then lies outside
    [0, 1], the range of values is scaled to [0, 1] instead. NaN becomes 0.

    Args:
        picture: decoded picture.
        background: value of transparent pixels: 0 for black, 1 for white.
    """
    if picture.mode.startswith(("I", "F")):
        gray = torch.from_numpy(_unit_range(np.asarray(picture).astype(np.float64), picture.mode))
        return gray.float().expand(1, 3, *gray.shape)
    if picture.has_transparency_data:
        from PIL import Image

        backdrop = Image.new("RGBA", picture.size, (*[255 * background] * 3, 255))
        picture = Image.alpha_composite(backdrop, picture.convert("RGBA"))
    return rearrange(torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255, "h w c -> 1 c h w")


def _unit_range(values: NDArray[np.float64], mode: str) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    white = 1.0 if mode == "F" else 65535.0  # Pillow reads 16 bits of some formats as 32
    if low >= 0 and high <= white:
        low, high = 0.0, white
    return np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0).clip(0, 1)
