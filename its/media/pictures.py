"""Read pictures of any mode as tensors, the same for all commands."""

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
    """Read a picture -> (1, 3, h, w) in [0, 1], upright; of an animation, its first frame.

    Args:
        path: of one of `its.media.decode.PICTURES`.
        background: of what is transparent, 0 for black or 1 for white.

    Raises:
        UserError: it can't be read, or is too large.
    """
    with naming(path):
        return to_tensor(open_picture(path), background)


def to_tensor(picture: Image.Image, background: int) -> Tensor:
    """A picture of any mode -> (1, 3, h, w) in [0, 1], as the table in docs/formats.md says.

    Gray of more than 8 bits is divided by 65535, and gray of floats kept, if all values are then within [0, 1]; else
    it is scaled so that the least value is 0 and the largest 1. Values that are no numbers are 0.

    Args:
        picture: decoded.
        background: as in `read_picture`.
    """
    if picture.mode.startswith(("I", "F")):
        gray = torch.from_numpy(_unit_range(np.asarray(picture).astype(np.float64), picture.mode))
        return gray.float().expand(1, 3, *gray.shape)
    if picture.has_transparency_data:
        from PIL import Image

        colored = picture.convert("RGBA")
        shade = 255 * background
        picture = Image.alpha_composite(Image.new("RGBA", colored.size, (shade, shade, shade, 255)), colored)
    return rearrange(torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255, "h w c -> 1 c h w")


def _unit_range(values: NDArray[np.float64], mode: str) -> NDArray[np.float64]:
    finite = values[np.isfinite(values)]
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 1.0)
    white = 1.0 if mode == "F" else 65535.0  # 16 bits come as 32 from some formats
    if low >= 0 and high <= white:
        low, high = 0.0, white
    return np.nan_to_num((values - low) / max(high - low, 1e-12), nan=0.0).clip(0, 1)
