"""Read pictures as tensors, for `its sonify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
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
        return _tensor(open_picture(path), background)


def _tensor(picture: Image.Image, background: int) -> Tensor:
    if picture.mode.startswith(("I", "F")):  # 16 or 32 bits, gray
        values = np.asarray(picture).astype(np.float64)
        # 16-bit pictures use their range; there is no telling that of the others but by what is in them.
        low, high = (0, 65535) if picture.mode.startswith("I;16") else (np.nanmin(values), np.nanmax(values))
        gray = np.nan_to_num((values - low) / max(high - low, 1e-12))
        return torch.from_numpy(gray.clip(0, 1)).float().expand(1, 3, *gray.shape)
    if picture.has_transparency_data:
        colored = picture.convert("RGBA")
        paper = _paper(colored.size, background)
        paper.alpha_composite(colored)
        picture = paper
    return rearrange(torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255, "h w c -> 1 c h w")


def _paper(size: tuple[int, int], background: int) -> Image.Image:
    from PIL import Image

    shade = 255 * background
    return Image.new("RGBA", size, (shade, shade, shade, 255))
